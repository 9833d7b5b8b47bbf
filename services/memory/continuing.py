"""Continuation of a reply that ended early: the request to the model, and the space between the reply and the continuation."""

import re

REQUEST = (
    "[The app asks this, not the user.] Your last reply ended early. Go on with it exactly where it stopped, in the same "
    "language and form. Repeat nothing of it, and do not say that you go on."
)
_WORD_TO_WORD = re.compile(r"[^\W_]{2}")
# nearly all scripts with code points from here on are written without spaces between words
_FIRST_UNSPACED = "\u2e80"


def spaced(so_far: str, piece: str) -> str:
    """Return the first *piece* of a continuation, with a space before it if it would run into the last word of *so_far*.

    Models begin a reply without a space, and most replies are cut between two words.
    """
    seam = so_far[-1:] + piece[:1]
    runs_together = _WORD_TO_WORD.fullmatch(seam) and max(seam) < _FIRST_UNSPACED
    return f" {piece}" if runs_together else piece
