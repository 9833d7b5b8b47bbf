"""The error that is raised for each refusal reason; SQL and services/rules return the same reasons."""

from services.domain.turns import Reservation
from services.errors import (
    AccountFull,
    AddressTaken,
    AdminsOnly,
    AppError,
    BadAddress,
    BadInput,
    Busy,
    Cap,
    FactorNeeded,
    FactorRequired,
    FactorUsed,
    InvitationNeeded,
    LastAdmin,
    NotFound,
    OverBudget,
    SignedOut,
    SignUpsClosed,
    SpaceGone,
    Stale,
    StoreUnavailable,
    TooManyAttempts,
    WayInTaken,
)
from services.rules import Refusal

_TOO_MANY = {
    "begin_turn": "Limit of chats reached. Delete one to start another.",
    "edit_reply": "This chat is full. Start a new one.",
    "invite": "Limit of open invitations reached. Revoke some first.",
    "put_fact": "Limit of memories reached. Delete some first.",
    "put_space": "Limit of spaces reached. Delete one to create another.",
}
_ERRORS: dict[str, type[AppError]] = {
    "not_found": NotFound,
    "stale": Stale,
    "different_request": Stale,
    "busy": Busy,
    "still_open": Busy,
    "no_space": SpaceGone,
    "last_admin": LastAdmin,
    "account_full": AccountFull,
    "admins_only": AdminsOnly,
    "signed_out": SignedOut,
    "sign_ups_closed": SignUpsClosed,
    "no_invitation": InvitationNeeded,
    "bad_address": BadAddress,
    "address_taken": AddressTaken,
    "factor_needed": FactorNeeded,
    "factor_used": FactorUsed,
    "factor_required": FactorRequired,
    "way_in_taken": WayInTaken,
}


def error_of(verb: str, refusal: Refusal, wanted: Reservation | None = None) -> AppError:
    """Return the error for the *refusal* of the call *verb*; *wanted*: the reservation that a refused turn requested."""
    match refusal.reason:
        case "too_many":
            return BadInput(_TOO_MANY[verb])
        case "too_many_attempts":
            return TooManyAttempts(refusal.wait_seconds)
        case Cap.DAILY | Cap.MONTHLY as cap if wanted:
            return OverBudget(Cap(cap), wanted.least_micro, refusal.room or 0)
        case Cap.DAILY_TOKENS if wanted:
            return OverBudget(Cap.DAILY_TOKENS, wanted.least_tokens, refusal.room_of_tokens)
        case Cap.DEPLOYMENT | Cap.OPEN_TURNS as cap:
            return OverBudget(Cap(cap))
        case Cap.TURNS_A_MINUTE:
            pace = {"per_minute": refusal.per_minute, "wait_seconds": refusal.wait_seconds}
            return OverBudget(Cap.TURNS_A_MINUTE, **pace)
        case reason:
            error = _ERRORS.get(reason)
            return error() if error else StoreUnavailable(reason)
