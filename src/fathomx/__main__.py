"""`python -m fathomx` is the command `fathomx`."""

from fathomx_command import main

main()
