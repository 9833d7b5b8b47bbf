"""Tables that admins download as CSV: users, models, invitations and the audit log."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

from services import portable
from services.domain.accounts import AuditEntry, Invitation, UserOrder, UserUsage
from services.domain.models import ModelInfo
from services.users import UserServices


def _users(admin: UserServices) -> Iterator[str]:
    skip, total = 0, 1
    while skip < total:
        page = admin.administration.list_users("", UserOrder.EMAIL, skip)
        yield portable.values_to_csv(UserUsage, page.users, has_header=not skip)
        skip, total = skip + max(1, len(page.users)), page.total


def _audit(admin: UserServices) -> Iterator[str]:
    """Yield the audit log as CSV, newest entries first."""
    audit = admin.administration.audit
    return portable.pages_to_csv(AuditEntry, lambda last: audit(last.id) if last else audit())


def _invitations(admin: UserServices) -> Iterator[str]:
    yield portable.values_to_csv(Invitation, admin.sign_ups.invitations())


@dataclass(frozen=True, slots=True)
class _Model(ModelInfo):
    is_offered: bool = True


def _models(admin: UserServices) -> Iterator[str]:
    admin.administration.deployment()  # raises AdminsOnly if the user is not an admin
    settings = admin.models.settings()
    every = [offer.info for offer in admin.offers.every()]
    rows = [_Model(**asdict(one), is_offered=settings.of(one.name).is_offered) for one in every]
    yield portable.values_to_csv(_Model, rows)


# maps the name of each table to a function that returns an iterator over its pages of CSV
TABLES: dict[str, Callable[[UserServices], Iterator[str]]] = {
    "users": _users,
    "models": _models,
    "invitations": _invitations,
    "audit": _audit,
}
