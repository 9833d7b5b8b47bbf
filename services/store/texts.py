"""Text that a person wrote, as it can be stored."""

from services.errors import BadInput


def storable(text: str) -> str:
    """Return *text* without the space around it. Raise BadInput."""
    text = text.strip()
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a pair of surrogates
        raise BadInput("This text contains a character that cannot be stored.") from None
    return text


def one_line(text: str, longest: int, what: str) -> str:
    """*text* on one line, of at most so many characters. Raise BadInput, which says *what* it is."""
    text = " ".join(storable(text).replace("\x00", "").split())
    if not 1 <= len(text) <= longest:
        raise BadInput(f"Enter {what} (max. {longest} characters).")
    return text
