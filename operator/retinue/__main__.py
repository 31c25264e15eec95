"""`python -m retinue` is the command line."""

from retinue.cli.main import main

main()
