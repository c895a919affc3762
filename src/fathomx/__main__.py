"""`python -m fathomx` is the command `fathomx`."""

from fathomx.command_line.commands import main

main()
