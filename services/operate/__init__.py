"""What an operator does at a console: `python -m services.operate --help`."""
