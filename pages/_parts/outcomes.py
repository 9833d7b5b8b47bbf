"""The result of the last form or button, drawn beside it: plain text, because it may contain email addresses."""

from collections.abc import Callable, Mapping
from html import escape

import streamlit as st

from pages._parts.elements import draw_refusal
from pages._session import attempt
from pages._tab import Outcome, tab
from services.errors import AdminsOnly, AppError, BadInput, SignedOut


class Unfit(BadInput):
    """Raised if entries of a form are refused. *sentences*: the reason for each refused field, by field name."""

    def __init__(self, sentences: Mapping[str, str]) -> None:
        super().__init__()
        self.sentences = sentences


def act_at(place: str, act: Callable[[], str]) -> None:
    """Call *act*; store its result (a sentence) or the reason why it failed, for `draw(place)` to show. For use in callbacks."""

    def act_and_keep() -> None:
        try:
            found = Outcome(place, news=act())
        except (SignedOut, AdminsOnly):  # the page itself draws these errors
            raise
        except Unfit as error:
            found = Outcome(place, of_fields=error.sentences)
        except AppError as error:
            found = Outcome(place, refusal=error.public)
        keep(found)

    forget()
    attempt(act_and_keep)


def keep(found: Outcome) -> None:
    tab().outcome = found


def forget() -> None:
    keep(Outcome())


def draw(place: str) -> None:
    """Draw the result or the refusal that `act_at` stored for *place*."""
    found = _found(place)
    if found.news:
        st.html(f'<p role="status" class="db-news">{escape(found.news)}</p>')
    if found.refusal:
        draw_refusal(found.refusal)


def draw_of_field(place: str, name: str) -> None:
    """Draw the reason why the entry of the field *name* in the form *place* was refused."""
    if sentence := _found(place).of_fields.get(name):
        draw_refusal(sentence)


def _found(place: str) -> Outcome:
    found = tab().outcome
    return found if found.place == place else Outcome()
