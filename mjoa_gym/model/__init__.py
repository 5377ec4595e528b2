"""The timing model: one inference, the link that it uses, and the problem of one round."""
