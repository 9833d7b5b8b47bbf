"""Length limits and validators for the texts that users write."""

from services.errors import BadInput

# seconds during which a deletion can be undone, and a temporary chat that was left can be reopened
UNDO_SECONDS = 20
# maximum bytes of a prompt or a reply; the longest text that can be sealed has 294,908 bytes
LONGEST_TEXT = 200_000
LONGEST_SUMMARY = 60_000  # bytes
LONGEST_INSTRUCTIONS = 8_000  # characters
LONGEST_FACT = 500  # characters
LONGEST_TITLE = 120  # characters
LONGEST_SPACE_NAME = 60  # characters
# control characters, and the bidirectional ones, which would turn around what follows a title in a sentence
_CONTROLS = dict.fromkeys(
    [*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
)
# the characters that Python's `str.strip` removes, and U+FEFF, which JavaScript's `trim` also removes
_WHITE_SPACE = "\ufeff" + "".join(filter(str.isspace, map(chr, range(0x3001))))


def storable(text: str) -> str:
    """Return *text* without surrounding white space. Raise BadInput if it contains an unpaired surrogate."""
    text = text.strip()
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadInput("This text contains a character that cannot be stored.") from None
    return text


def checked_message(text: str, if_empty: str = "Type a message first.") -> str:
    """Return *text* without surrounding white space. Raise BadInput if it is empty or too long."""
    # strips what JavaScript's `trim` strips, because assets/page/drafts.js compares the prompt with the trimmed draft
    text = storable(text).strip(_WHITE_SPACE)
    if not text:
        raise BadInput(if_empty)
    if (size := len(text.encode())) > LONGEST_TEXT:
        used = f"{size:,} of {LONGEST_TEXT:,} bytes"
        raise BadInput(f"This message is too long ({used}). Send it in parts.")
    return text


def checked_summary(text: str) -> str:
    """Return *text* without surrounding white space. Raise BadInput if it is too long."""
    text = storable(text)
    if len(text.encode()) > LONGEST_SUMMARY:
        raise BadInput("This summary is too long. Shorten it.")
    return text


def checked_instructions(text: str) -> str | None:
    """Return *text* without surrounding white space, or None if it is empty. Raise BadInput if it is too long."""
    text = storable(text)
    if len(text) > LONGEST_INSTRUCTIONS:
        raise BadInput(f"Instructions can have at most {LONGEST_INSTRUCTIONS:,} characters.")
    return text or None


def checked_fact(text: str) -> str:
    """Return *text* on one line. Raise BadInput if it is empty or too long."""
    return _one_line(text, LONGEST_FACT, "some text")


def checked_title(text: str) -> str:
    """Return *text* on one line. Raise BadInput if it is empty or too long."""
    return _one_line(text, LONGEST_TITLE, "a title")


def checked_space_name(text: str) -> str:
    """Return *text* on one line. Raise BadInput if it is empty or too long."""
    return _one_line(text, LONGEST_SPACE_NAME, "a name")


def one_line(text: str) -> str:
    """Return *text* on one line, without control characters."""
    return " ".join(" ".join(text.split()).translate(_CONTROLS).split())


def _one_line(text: str, longest: int, what: str) -> str:
    text = one_line(storable(text))
    if not 1 <= len(text) <= longest:
        raise BadInput(f"Enter {what} (max. {longest} characters).")
    return text
