"""The dynamics from round to round: the UEs, the server's memory, and batches of environments."""
