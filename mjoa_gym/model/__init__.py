"""The timing model: one inference, what it gets of the resources, and one round's problem."""
