"""Pages that are shown only once: the setup key of an authenticator app, and recovery codes.

POST routes return them, without Streamlit, so that no key or code enters a URL, a cache or a Streamlit session. They work
without JavaScript; the app's script adds Copy, Download and Print.
"""

from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from html import escape

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from services.domain.addresses import EmailAddress
from services.identity.totp import DIGITS, provisioning_uri, qr_svg, secret_text
from services.web import streamlit_assets
from services.web.forms import local_path
from services.web.page_assets import app_files

WRONG_CODE = "Wrong code. Enter the code that the app shows now."  # shown as `Enrolment.refusal`
_ISSUER = "Daybook"
_FILE = "daybook-recovery-codes.txt"
# Content-Security-Policy, sent in addition to the policy of all responses. The Referrer-Policy is not stricter here: with
# "no-referrer", browsers would send the form with "Origin: null", which the check of the origin refuses
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self' data:; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
_POLICY_OF_PASSKEYS = f"{_POLICY}; connect-src 'self'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolment:
    """A setup key, and the form that confirms it with a code of the authenticator app."""

    secret: bytes = field(repr=False)
    # email address of the account, shown in the authenticator app
    address: EmailAddress = field(repr=False)
    action: str = field(repr=False)  # the path that the form posts to, with the field `code`
    hidden: Mapping[str, str] = field(repr=False)  # hidden fields of the form
    cancel: str = field(repr=False)  # the path that Cancel leads to
    # a sentence that says why the last code was refused
    refusal: str = field(default="", repr=False)
    # True: the form offers to sign out all other devices (field `others`)
    offers_sign_out: bool = False
    # True: the user ticked this box in the form whose code was refused
    signs_out_others: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryCodes:
    """New recovery codes, and the path that Continue leads to."""

    codes: tuple[str, ...] = field(repr=False)
    address: EmailAddress = field(repr=False)  # the account's email address, for the download
    target: str = field(repr=False)


class ShownOnce(Enum):
    """Pages that replace content which was already shown; each value is a title, a sentence and advice."""

    SETUP_KEY = (
        "Setup key already shown",
        "For your security, a setup key is shown only once.",
        "If you did not finish, start again on the page Account, with a new key.",
    )
    RECOVERY_CODES = (
        "Recovery codes already shown",
        "For your security, recovery codes are shown only once.",
        "If you did not save them, make new ones on the page Account. The old ones will no longer work.",
    )


def enrol_page(enrolment: Enrolment) -> Response:
    """Return the page with the QR code and the setup key. This takes about 40 ms, so call it in a thread."""
    key = secret_text(enrolment.secret)
    groups = " ".join(key[start : start + 4] for start in range(0, len(key), 4))
    svg = qr_svg(provisioning_uri(enrolment.secret, enrolment.address, _ISSUER))
    refusal = invalid = ""
    if enrolment.refusal:
        refusal = f'<p role="alert" id="refusal">{escape(enrolment.refusal)}</p>'
        invalid = ' aria-invalid="true" aria-describedby="refusal"'
    is_ticked = enrolment.signs_out_others
    others = sign_out_box(is_ticked=is_ticked) if enrolment.offers_sign_out else ""
    return plain_page(
        "Set up your authenticator app",
        f"""
<h2>1. Scan this QR code with an authenticator app or a password manager</h2>
<div class="db-qr" role="img" aria-label="QR code with the setup key below">{svg}</div>
<p>Can't scan it? Enter this setup key in the app:</p>
<div class="db-once-acts"><code>{groups}</code>{_copy_button(key)}</div>
<form class="db-form" method="post" action="{page_path(enrolment.action)}">
{hidden_fields(enrolment.hidden)}{refusal}<label><b>2. Enter the {DIGITS}-digit code that the app shows</b>
<input name="code" type="text" inputmode="numeric" autocomplete="one-time-code" required
  maxlength="20" placeholder="123456" autofocus{invalid}></label>
{others}<button type="submit">Confirm</button>
</form>
<small>Enter the code within ten minutes after you signed in or confirmed that it is you.
If you added an earlier key and did not confirm it, remove it from the app.</small>
<small>This key is shown only once. Do not share it: it makes the codes for your account.</small>
<a href="{page_path(enrolment.cancel)}">Cancel</a>""",
    )


def recovery_page(recovery: RecoveryCodes) -> Response:
    lines = "\n".join(recovery.codes)
    text = f"Recovery codes of {recovery.address} for Daybook. Each one works once.\n\n{lines}\n"
    codes = "\n".join(f"<li><code>{escape(code)}</code></li>" for code in recovery.codes)
    return plain_page(
        "Save your recovery codes",
        f"""
<p>If you lose your authenticator app or passkey, sign in with one of these codes in its place. Each one works once.</p>
<ol>
{codes}
</ol>
<div class="db-once-acts">
{_copy_button(lines)}
<button type="button" data-file="{_FILE}" data-text="{escape(text)}" hidden>Download</button>
<button type="button" data-print hidden>Print</button>
</div>
<p>Keep them in a safe place, apart from your password. They are shown only once.</p>
<small>Account: {escape(recovery.address)}</small>
<a class="db-go" href="{page_path(recovery.target)}">Continue</a>""",
    )


def codes_page(codes: tuple[str, ...], address: EmailAddress) -> Callable[[str], Response]:
    """Return a function that builds the page with recovery *codes*; its argument is the path that Continue leads to."""
    return lambda target: recovery_page(RecoveryCodes(codes=codes, address=address, target=target))


def codes_were_shown(_: Request) -> Response:
    """Return the page that replaces the recovery codes after a reload; it says that they were already shown."""
    return shown_page(ShownOnce.RECOVERY_CODES)


def shown_page(shown: ShownOnce) -> Response:
    """Return the page that is shown in place of one-time content, for example after a reload."""
    title, sentence, advice = shown.value
    return plain_page(
        title,
        f"""
<p>{escape(sentence)}</p>
<p>{escape(advice)}</p>
<a class="db-go" href="/account">Open Account</a>""",
    )


def plain_page(title: str, body: str, *, has_passkey_form: bool = False) -> Response:
    """Return an HTML page without Streamlit, which browsers must not cache; *body* is HTML.

    *has_passkey_form*: let the page's script ask the server for a passkey challenge.
    """
    files, fonts = app_files(), streamlit_assets.font_style()
    return HTMLResponse(
        f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="format-detection" content="telephone=no">
<title>{escape(title)} · Daybook</title>
<link rel="icon" href="{files.mark}">
<link rel="stylesheet" href="{fonts}">
<link rel="stylesheet" href="{files.style}">
<script type="module" src="{files.script}"></script>
</head>
<body class="db-plain db-once">
<main>
<img src="{files.logo}" alt="Daybook" width="168">
<section>
<h1>{escape(title)}</h1>{body}
</section>
</main>
</body>
</html>
""",
        headers={
            "Cache-Control": "no-store",
            "Content-Security-Policy": _POLICY_OF_PASSKEYS if has_passkey_form else _POLICY,
        },
    )


def sign_out_box(*, is_ticked: bool = False) -> str:
    """Return the HTML of the checkbox that signs out the user's other devices."""
    return f"""<label class="db-check"><input type="checkbox" name="others" value="yes"{" checked" if is_ticked else ""}>
Sign out my other devices</label>
"""


def _copy_button(text: str) -> str:
    """Return the HTML of a Copy button; assets/page/copy.js handles its clicks."""
    encoded = b64encode(text.encode()).decode()
    return f'<button type="button" title="Copy" data-copy="{encoded}" hidden>Copy</button>'


def hidden_fields(values: Mapping[str, str]) -> str:
    """Return the HTML of the hidden fields of a form."""
    return "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">\n'
        for name, value in values.items()
    )


def page_path(target: str) -> str:
    """Return *target* escaped for an HTML attribute; the front page if *target* leads to another site."""
    return escape(local_path(target))
