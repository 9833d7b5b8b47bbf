"""Forms for stored numbers: limits, prices, days."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages._parts import outcomes, words
from pages._parts.elements import row
from services.domain.accounts import Limits
from services.errors import BadInput, Cap

Save = Callable[[Mapping[str, int | None]], object]
_MOST = {  # the maximum of each limit, in micro-dollars, tokens or turns
    "daily_cap_micro": 10**12,
    "monthly_cap_micro": 10**12,
    "daily_cap_tokens": 10**12,
    "max_per_minute": 10**6,
    "max_open": 1000,
}


@dataclass(frozen=True, slots=True)
class Number:
    """A number field. A number whose *name* ends with `_micro` is stored in micro-dollars and entered in dollars."""

    name: str
    label: str
    stored: int | None
    most: int
    empty: str = ""  # the placeholder of an empty field; "": a number is required
    least: int = 0

    @property
    def _is_amount(self) -> bool:
        return self.name.endswith("_micro")

    def key(self, form: str) -> str:
        """Return the field's key, which changes with the stored number, so that the field shows the new number."""
        return f"{form}-{self.name}-{self.stored}"

    def draw(self, form: str) -> None:
        """Draw the field; if its last entry was refused, draw the reason below it."""
        key = self.key(form)
        # set in the session state: if the number were passed as `value`, a field that the user empties would show the
        # number, or 0, again
        st.session_state.setdefault(key, self._shown(self.stored))
        # the field gets no bounds, because the browser would refuse an entry without a message
        with st.container(width=150, gap="xxsmall"):
            st.number_input(
                f"{self.label} ($)" if self._is_amount else self.label,
                value=None,
                step=None if self._is_amount else 1,
                format="%.10g" if self._is_amount else None,
                key=key,
                placeholder=self.empty,
            )
            outcomes.draw_of_field(form, self.name)

    def entered(self, form: str) -> int | None:
        """Return the number, or None if an optional field is empty.

        Raise BadInput if the number is out of bounds, or missing although it is required.
        """
        unit = words.MILLION if self._is_amount else 1
        value: float | None = st.session_state[self.key(form)]
        if value is None and self.empty:
            return None
        if value is None or not self.least <= round(value * unit) <= self.most:
            least, most = words.number(self.least // unit), words.number(self.most // unit)
            raise BadInput(f"Enter {least} to {most}.")
        return round(value * unit)

    def _shown(self, value: int | None) -> float | None:
        return value / words.MILLION if self._is_amount and value is not None else value


def draw(
    form: str, title: str, fields: Sequence[Number], save: Save, caption: str
) -> DeltaGenerator:
    """Draw a form whose button passes the entries to *save*; return the row that contains the button.

    Refusals are drawn below their fields; other results are drawn beside the button.
    """

    def act() -> str:
        save(entries(form, fields))
        return "Saved."

    with st.form(form):
        st.html(f"<strong>{escape(title)}</strong>")
        st.caption(caption)
        with st.container(horizontal=True, gap="small"):
            for field in fields:
                field.draw(form)
        with row():
            # a container of their own, because a result beside them moves a later button to the right edge
            buttons = st.container(horizontal=True, width="content")
            save_label, press = words.SAVE, outcomes.act_at
            buttons.form_submit_button(save_label, type="primary", on_click=press, args=[form, act])
            outcomes.draw(form)
    return buttons


def entries(form: str, fields: Sequence[Number]) -> Mapping[str, int | None]:
    """Return the entries keyed by field name. Raise Unfit if an entry is refused."""
    found: dict[str, int | None] = {}
    refused: dict[str, str] = {}
    for field in fields:
        try:
            found[field.name] = field.entered(form)
        except BadInput as error:
            refused[field.name] = error.public
    if refused:
        raise outcomes.Unfit(refused)
    return found


def draw_limits(
    form: str, title: str, stored: Limits | None, save: Save, caption: str = ""
) -> None:
    """Draw a form for users' limits: with the *stored* limits or, if None, with empty fields.

    With *stored* limits, an empty tokens field means no limit, and the other fields require a number. Without them, a
    field that stays empty changes nothing.
    """
    empty = {"daily_cap_tokens": "No limit"} if stored else dict.fromkeys(_MOST, "Unchanged")
    before = {name: stored and getattr(stored, name) for name in _MOST}
    fields = [
        Number(
            name,
            words.LIMIT_NAMES[name],
            before[name],
            most,
            empty.get(name, ""),
            # at least 1, unless 0 is stored already: with a limit of 0 messages, a user cannot send any
            least=int(name.startswith("max_") and before[name] != 0),
        )
        for name, most in _MOST.items()
    ]

    def save_changes(entered: Mapping[str, int | None]) -> None:
        save({name: value for name, value in entered.items() if value != before[name]})

    daily, monthly = words.reset_time(Cap.DAILY), words.reset_time(Cap.MONTHLY)
    resets = f"Daily limits reset {daily}, monthly limits {monthly}, your time."
    draw(form, title, fields, save_changes, f"{caption} {resets}")
