"""Fields of native HTML forms: hidden ones, email addresses and passwords."""

from collections.abc import Mapping
from html import escape
from typing import Literal

from pages._parts import words
from services.domain.addresses import ADDRESS_PATTERN
from services.domain.passwords import PASSWORD_BYTES, PASSWORD_CHARACTERS, PASSWORD_RULE
from services.errors import AddressNotPlain, BadAddress, WeakPassword

PasswordKind = Literal["current-password", "new-password"]  # values of the attribute `autocomplete`


def hidden_fields(values: Mapping[str, object]) -> str:
    """Return the HTML of the hidden fields of a form that send *values*."""
    return "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(str(value))}">'
        for name, value in values.items()
    )


def revealed(name: str, form: str) -> str:
    """Return the HTML of *form* so that assets/page/reveal.js gives it the focus, and gives it back to the button *name* or open-*name*."""
    return f'<div data-reveal="{escape(name)}">{form}</div>'


def email_field(label: str = words.EMAIL, autocomplete: str = "username", state: str = "") -> str:
    """Return the HTML of a field for an email address, which assets/page/check.js checks; *state*: more attributes."""
    return f"""<label>{label}<input name="email" type="email" autocomplete="{autocomplete}" required {state}
          placeholder="you@example.org" data-pattern="{escape(ADDRESS_PATTERN)}"
          data-refusal="{BadAddress.public}" data-not-plain="{AddressNotPlain.public}"></label>"""


def password_field(label: str, kind: PasswordKind, state: str = "") -> str:
    """Return the HTML of a password field with the id *kind*; *state*: more attributes.

    `show_button` draws the rule for a new password; assets/page/check.js checks its length.
    """
    rule = ""
    if kind == "new-password":
        short, long = WeakPassword("short").public, WeakPassword("long").public
        rule = (
            f'aria-describedby="password-rule" data-least="{PASSWORD_CHARACTERS}" data-most="{PASSWORD_BYTES}" '
            f'data-short="{short}" data-long="{long}"'
        )
    return f"""<label>{label}<input name="password" id="{kind}" type="password" autocomplete="{kind}" required
          autocapitalize="none" spellcheck="false" {rule} {state}></label>"""


def show_button(*kinds: PasswordKind) -> str:
    """Return the HTML of the button that makes the passwords in the fields *kinds* visible.

    If one of the fields is for a new password, the rule for passwords follows the button.
    """
    button = f'<button type="button" class="db-show" aria-controls="{" ".join(kinds)}">Show password</button>'
    is_new = "new-password" in kinds
    return f'{button}<small id="password-rule">{PASSWORD_RULE}</small>' if is_new else button
