"""Hidden fields and password fields of native HTML forms."""

from collections.abc import Mapping
from html import escape
from typing import Literal

from services.domain.passwords import PASSWORD_CHARACTERS, PASSWORD_RULE

PasswordKind = Literal["current-password", "new-password"]  # values of the attribute `autocomplete`


def hidden_fields(values: Mapping[str, object]) -> str:
    """Return the HTML of the hidden fields of a form that send *values*."""
    return "".join(
        f'<input type="hidden" name="{name}" value="{escape(str(value))}">'
        for name, value in values.items()
    )


def password_field(label: str, kind: PasswordKind) -> str:
    """Return the HTML of a password field with the id *kind*. `show_button` draws the rule for a new password."""
    rule = ""
    if kind == "new-password":
        rule = f'minlength="{PASSWORD_CHARACTERS}" aria-describedby="password-rule"'
    return f"""<label>{label}<input name="password" id="{kind}" type="password" autocomplete="{kind}" required
          autocapitalize="none" spellcheck="false" {rule}></label>"""


def show_button(*kinds: PasswordKind) -> str:
    """Return the HTML of the button that makes the passwords in the fields *kinds* visible.

    If one of the fields is for a new password, the rule for passwords follows the button.
    """
    button = f'<button type="button" class="db-show" aria-controls="{" ".join(kinds)}">Show password</button>'
    is_new = "new-password" in kinds
    return f'{button}<small id="password-rule">{PASSWORD_RULE}</small>' if is_new else button
