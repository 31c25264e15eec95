"""Writes the generated files of the project. One module per family of files; `__main__` is the command."""
