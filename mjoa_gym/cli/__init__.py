"""The command `mjoa-gym`, one file per part of it."""
