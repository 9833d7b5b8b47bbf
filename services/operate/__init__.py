"""The operator's commands: `python -m services.operate --help`."""
