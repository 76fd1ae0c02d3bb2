"""The commands as Python functions: whole ways from files to files."""
