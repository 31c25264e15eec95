"""The command line: typer and rich only; everything else is imported inside commands."""
