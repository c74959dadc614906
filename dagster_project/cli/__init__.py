"""The command line, `lwf`: one module per group of commands, and what they print."""
