"""Pure functions that check a provider's response and read its claims (OpenID Connect Core 1.0, 3.1.2.7 and 3.1.3.7).

The checks are implemented here, because libraries omit some of them.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import cast

from services.domain.addresses import EmailAddress, checked_address, has_mailbox
from services.domain.single_sign_on import (
    AnswerFault,
    AnswerRefused,
    Identity,
    ProviderAnswer,
    ProviderRequest,
    RequestKind,
)
from services.errors import BadAddress
from services.provider_settings import ProviderSettings

Claims = Mapping[str, object]

_LONGEST_CODE = 8_000
_SKEW = timedelta(seconds=60)
_LONGEST_SUBJECT = 255
# error codes of RFC 6749 (4.1.2.1) which say that the provider accepts no such request from this client
_REFUSED = "invalid_request", "invalid_scope", "unauthorized_client", "unsupported_response_type"
_PARAMETERS = ("state", "iss", "error", "code")
# in seconds since 1970, in the year 4147; calculations with much later times would overflow
_LAST_SECOND = 2**36


def code_of(
    parameters: Sequence[tuple[str, str]],
    name: str,
    entry: ProviderSettings,
    request: ProviderRequest,
    *,
    names_issuer: bool,
) -> str:
    """Return the authorization code in a provider's response; *parameters*: the query parameters of the redirect to the app.

    *name*: the provider entry to which the redirect URL belongs; *names_issuer*: the provider declares that it sends
    the parameter iss (RFC 9207). Raise AnswerRefused if a check of the response fails.
    """
    given = {one: [value for key, value in parameters if key == one] for one in _PARAMETERS}
    if any(len(values) > 1 for values in given.values()):
        raise AnswerRefused(AnswerFault.REPEATED)
    state, issuer, error, code = (next(iter(given[one]), None) for one in _PARAMETERS)
    if request.provider != name:
        raise AnswerRefused(AnswerFault.PROVIDER)
    if state != request.state:
        raise AnswerRefused(AnswerFault.STATE)
    if issuer != entry.issuer and (names_issuer or issuer is not None):
        raise AnswerRefused(AnswerFault.ISSUER)
    if error is not None:
        raise AnswerRefused(AnswerFault.REQUEST if error in _REFUSED else AnswerFault.ERROR)
    if not code or len(code) > _LONGEST_CODE:
        raise AnswerRefused(AnswerFault.CODE)
    return code


def check_claims(
    claims: Claims, entry: ProviderSettings, request: ProviderRequest, now: datetime
) -> None:
    """Raise AnswerRefused unless *claims* identify a user, are meant for this app, respond to *request*, and have not expired."""
    audience, subject = claims.get("aud"), claims.get("sub")
    expires_at, signed_in_at = _time(claims.get("exp")), _time(claims.get("auth_time"))
    if claims.get("iss") != entry.issuer:
        raise AnswerRefused(AnswerFault.TOKEN_ISSUER)
    if audience not in (entry.client_id, [entry.client_id]):
        raise AnswerRefused(AnswerFault.AUDIENCE)
    if claims.get("azp", entry.client_id) != entry.client_id:
        raise AnswerRefused(AnswerFault.AUTHORIZED_PARTY)
    if not isinstance(subject, str) or not _is_subject(subject):
        raise AnswerRefused(AnswerFault.SUBJECT)
    if claims.get("nonce") != request.nonce:
        raise AnswerRefused(AnswerFault.NONCE)
    if expires_at is None or expires_at + _SKEW <= now:
        raise AnswerRefused(AnswerFault.EXPIRY)
    if request.asked is RequestKind.PROOF and signed_in_at is None:
        raise AnswerRefused(AnswerFault.SIGN_IN_TIME)
    if "auth_time" in claims and (signed_in_at is None or signed_in_at > now + _SKEW):
        raise AnswerRefused(AnswerFault.SIGN_IN_TIME)


def answer_of(
    claims: Claims, profile: Claims, name: str, entry: ProviderSettings
) -> ProviderAnswer:
    """Build the `ProviderAnswer` from the checked *claims*; *profile*: the claims that contain the email address."""
    address = _address(profile.get("email"))
    is_verified = address is not None and (
        entry.trusts_address
        or any(_is_true(profile.get(one)) for one in ("email_verified", "xms_edov"))
        or profile.get("xms_edov") == "1"  # the form that Entra sends in place of true at times
    )
    # at Google, a private account may have an address of the domain; only members of the domain have the claim hd
    is_member = not (entry.is_google and entry.domains) or claims.get("hd") in entry.domains
    methods = claims.get("amr")
    given = [claims.get("acr"), *(cast(list[object], methods) if isinstance(methods, list) else [])]
    return ProviderAnswer(
        provider=name,
        identity=Identity(entry.issuer, str(claims["sub"])),
        address=address,
        is_verified=is_verified,
        is_member=is_member,
        is_of_domains=not entry.domains
        or (
            is_member
            and is_verified
            and address is not None
            and address.rpartition("@")[2] in entry.domains
        ),
        signed_in_at=_time(claims.get("auth_time")),
        has_factor=any(one in entry.trusts_mfa for one in given),
    )


def _is_subject(text: str) -> bool:
    """Return True for 1 to 255 printable ASCII characters, as OpenID Connect requires of a subject."""
    return 1 <= len(text) <= _LONGEST_SUBJECT and text.isascii() and text.isprintable()


def _address(value: object) -> EmailAddress | None:
    try:
        address = checked_address(value) if isinstance(value, str) else None
    except BadAddress:
        return None
    return address if address and has_mailbox(address) else None


def _is_true(value: object) -> bool:
    """Return True for true, "true" and 1, which providers send; not for 1.0."""
    return value is True or value == "true" or (type(value) is int and value == 1)


def _time(value: object) -> datetime | None:
    """Convert a number of seconds since 1970 to a time; return None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # also None for NaN, which JSON libraries accept and which lies in no range
    return datetime.fromtimestamp(value, UTC) if 0 <= value <= _LAST_SECOND else None
