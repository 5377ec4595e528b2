"""The tests of mjoa-gym."""
