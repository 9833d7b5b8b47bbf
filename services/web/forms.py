"""Native HTML forms: their fields, and the redirects in response to them."""

from urllib.parse import parse_qsl, urlencode, urlsplit
from uuid import UUID

from starlette.requests import Request

from services import errors
from services.domain.accounts import REDIRECT_PARAMETERS, SIGN_IN_REASONS

_LONGEST_INVITATION = 100  # maximum characters of an invitation code
_REASONS = {error: reason for reason, error in SIGN_IN_REASONS.items()}
# maximum fields of a form; a reset has a field for each of up to 20 passkeys and 10 identities
_MOST_FIELDS = 50


async def fields(request: Request, *names: str) -> list[str]:
    """Return the fields *names* of the form in *request*; "" for a missing field."""
    async with request.form(max_files=0, max_fields=10) as form:
        return [str(form.get(name, "")) for name in names]


async def all_fields(request: Request) -> dict[str, str]:
    """Return all fields of the form in *request*; if several fields have the same name, return only the last of them."""
    async with request.form(max_files=0, max_fields=_MOST_FIELDS) as form:
        return {name: str(value) for name, value in form.items()}


def local_path(target: str) -> str:
    """Return *target* if it is a path on this site, else the front page."""
    is_path = target.startswith("/") and not target.startswith(("//", "/\\"))
    return target if is_path and target.isprintable() and len(target) < 2000 else "/"


def read_invitation(text: str) -> str:
    """Return the invitation code in the *text* of a form field or a URL; "" if there is none."""
    return text.strip()[:_LONGEST_INVITATION]


def read_step_id(text: str) -> UUID:
    """Return the id of a step from the *text* of a form field. Raise StepEnded if the text is not an id."""
    try:
        return UUID(text)
    except ValueError:
        raise errors.StepEnded from None


def with_query(target: str, **values: str) -> str:
    """Return the URL *target* with *values* in its query, in place of the parameters that an earlier redirect has set."""
    parts = urlsplit(target)
    query = [(k, v) for k, v in parse_qsl(parts.query) if k not in REDIRECT_PARAMETERS]
    query += [(name, value) for name, value in values.items() if value]
    return parts._replace(query=urlencode(query)).geturl()


def with_form(request: Request, page: str) -> str:
    """Return the URL of *page* with the form of *request* open: the form's own URL names it as `then`."""
    return with_query(page, then=request.query_params.get("then", ""))


def with_reason(target: str, error: errors.AppError, **values: str) -> str:
    """Return the URL *target* with the reason of *error* in its query, and *values* that the page needs to show the form."""
    values["reason"] = _REASONS.get(type(error), "unavailable")
    if isinstance(error, errors.TooManyAttempts):
        values["wait"] = str(error.retry_after)
    if isinstance(error, errors.WeakPassword):
        values["why"] = error.reason
    return with_query(target, **values)
