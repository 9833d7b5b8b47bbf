"""The pages of single sign-on: links to a provider, and questions to the user before an identity is linked or used as a proof.

Routes return these pages without Streamlit, because their content is stored in a step of the browser. They work without
JavaScript, except for passkeys. A link, not a form, leads to a provider, because browsers apply the CSP's form-action also
to redirects after a form.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape

from starlette.responses import Response

from services.domain.addresses import EmailAddress
from services.web.shown_once import hidden_fields, page_path, plain_page, sign_out_box

_PASSWORD = """<label>Password<input name="password" type="password" autocomplete="current-password" required
  autofocus></label>"""  # noqa: S105
_FACTOR = """<label>{}<input name="factor" type="text" autocomplete="one-time-code" autocapitalize="none"
  spellcheck="false" required maxlength="60"></label>"""
_SECOND = ' class="db-second"'  # HTML attribute of a secondary button
_ADDRESS = """<label>Email<input name="email" type="email" autocomplete="email" required autofocus
  placeholder="you@example.org" value="{}"></label>"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question that a page asks the user about a provider's response, which is stored in a pending step."""

    label: str = field(repr=False)  # name of the provider, as pages show it
    address: EmailAddress | None = field(repr=False)  # email address in the provider's response
    is_verified: bool  # True: the provider has confirmed the address
    action: str = field(repr=False)  # the path that the form posts to
    hidden: Mapping[str, str] = field(repr=False)  # hidden fields of the form
    cancel: str = field(repr=False)  # the path that Cancel leads to
    # a sentence that says why the last input was refused
    refusal: str = field(default="", repr=False)


def start_page(label: str, here: str) -> Response:
    """Return the page with the link that begins a sign-in; *here*: the path that the link opens."""
    return plain_page(
        f"Sign in with {label}",
        f"""
<p>You opened a link that signs you in with {escape(label)}.</p>
<a class="db-go" href="{page_path(here)}">Continue with {escape(label)}</a>
<a href="/">Cancel</a>""",
    )


def provider_link_page(label: str, address: str, cancel: str, *, is_proof: bool) -> Response:
    """Return the page that links to a provider at the URL *address*. It is the response to a form of the app."""
    why = "Sign in there again to confirm that it is you." if is_proof else "Sign in there."
    return plain_page(
        f"Continue with {label}",
        f"""
<p>{escape(why)} Then you come back here.</p>
<a class="db-go" rel="noreferrer" href="{escape(address)}">Continue to {escape(label)}</a>
<a href="{page_path(cancel)}">Cancel</a>""",
    )


def no_sign_out_page(label: str) -> Response:
    """Return the page which says that Daybook cannot sign the user out at a provider."""
    return plain_page(
        f"Sign out of {label}",
        f"""
<p>Daybook cannot sign you out of {escape(label)}. Do it on its own site.</p>
<a class="db-go" href="/">Back to Daybook</a>""",
    )


def other_address_page(url: str) -> Response:
    """Return the page for a browser that is not at *url*, the only URL to which providers redirect back."""
    return plain_page(
        "Open Daybook at another address",
        f"""
<p>Other providers lead back to {escape(url)} only. Sign in there first.</p>
<a class="db-go" href="{escape(url)}/account">Open {escape(url)}</a>""",
    )


def add_page(question: Question) -> Response:
    """Return the page that asks a signed-in user whether to link an identity to the account."""
    is_claimed = question.address is not None and not question.is_verified
    claimed = f"<p>{escape(question.label)} has not confirmed this email.</p>" if is_claimed else ""
    return plain_page(
        "Add this sign-in?",
        f"""
<p>{_who(question)} will open your account. Add it only if it is yours.</p>{claimed}
{_refusal(question)}{_form(question, sign_out_box(), "Add sign-in")}
{_cancel(question)}""",
    )


def account_page(
    question: Question, *, has_password: bool, sends_codes: bool, takes_passkey: bool
) -> Response:
    """Return the page that asks a user to sign in to an existing account before an identity is linked to it."""
    forms = [_form(question, _PASSWORD, "Sign in")] if has_password else []
    if takes_passkey:
        use = "link", "Sign in with a passkey"
        forms.append(_passkey_form(question, *use, is_second=has_password))
    if sends_codes:
        or_else = "<p>Or have a code sent to your email.</p>\n" if forms else ""
        forms.append(
            f"""{or_else}<form class="db-form" method="post" action="{page_path(question.action)}/code">
{hidden_fields(question.hidden)}<button type="submit"{_SECOND if forms else ""}>Send code</button>
</form>"""
        )
    label = escape(question.label)
    return plain_page(
        f"Add {question.label} to your account",
        f"""
<p><b>{escape(question.address or "")}</b> already has an account here. Sign in to it once more, and {label} opens it
from then on.</p>
{_refusal(question)}{"".join(forms) or "<p>Ask your admin for help.</p>"}
{_cancel(question)}""",
        has_passkey_form=takes_passkey,
    )


def factor_page(question: Question, *, has_app: bool, asks_passkey: bool) -> Response:
    """Return the page that asks for the second factor, after a provider has proved who is signed in."""
    what, passkey = "a code", ""
    if asks_passkey:
        what = "your passkey or a code" if has_app else "your passkey"
        passkey = f"""{_passkey_form(question, "proof_factor", "Use your passkey")}
<p>{"Or enter a code." if has_app else "Or enter a recovery code."}</p>
"""
    label = "Code of your authenticator app, or a recovery code" if has_app else "Recovery code"
    form = _form(question, _FACTOR.format(label), "Confirm", is_second=asks_passkey)
    return plain_page(
        "Confirm that it is you",
        f"""
<p>{_who(question)} is confirmed. Your account also asks for {what}.</p>
{_refusal(question)}{passkey}{form}
{_cancel(question)}""",
        has_passkey_form=asks_passkey,
    )


def address_page(question: Question, entered: str = "") -> Response:
    """Return the page that asks for an email address, if the provider names no verified address.

    *entered*: the address that was refused.
    """
    return plain_page(
        "Enter your email",
        f"""
<p>{escape(question.label)} has not confirmed an email of yours. We will email you a code that confirms it.</p>
{_refusal(question)}{_form(question, _ADDRESS.format(escape(entered)), "Send code")}
{_cancel(question)}""",
    )


def _who(question: Question) -> str:
    label, address = escape(question.label), question.address
    return f"<b>{escape(address)}</b> at {label}" if address else f"Your sign-in at {label}"


def _form(question: Question, fields: str, verb: str, *, is_second: bool = False) -> str:
    style = _SECOND if is_second else ""
    return f"""<form class="db-form" method="post" action="{page_path(question.action)}">
{hidden_fields(question.hidden)}{fields}<button type="submit"{style}>{escape(verb)}</button>
</form>"""


def _passkey_form(question: Question, use: str, label: str, *, is_second: bool = False) -> str:
    """Return the form that assets/page/passkey.js fills in when the form's button is clicked."""
    hidden = {"use": use, "entry": question.hidden["step"], "next": question.cancel}
    return f"""<form class="db-form" method="post" action="/passkey" data-passkey="get">
{hidden_fields({**hidden, "step": "", "answer": ""})}<button type="submit"{_SECOND if is_second else ""} hidden>
{label}</button>
<noscript><p>To use a passkey, allow this page to run scripts.</p></noscript>
</form>"""


def _refusal(question: Question) -> str:
    return f'<p role="alert">{escape(question.refusal)}</p>\n' if question.refusal else ""


def _cancel(question: Question) -> str:
    return f'<a href="{page_path(question.cancel)}">Cancel</a>'
