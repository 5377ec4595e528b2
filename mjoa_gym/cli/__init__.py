"""The command `mjoa-gym`, with one file per subcommand."""
