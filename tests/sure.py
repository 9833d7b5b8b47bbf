"""Commands of the operator that ask before they act."""

ASKING = ("free-address", "reset-factors", "set-address", "move-issuer", "repair-sign-in")


def sure(command):
    """Return *command* (its words), with the option that answers its question."""
    return [*command, *(["--yes"] if command[0] in ASKING else [])]
