"""What happens from round to round: who is there, what stays on the server, many at once."""
