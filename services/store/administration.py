"""Admin actions that need more than one call to the store: ending access, changing models and sign-ups."""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from uuid import UUID

from services.caches import CachedRead
from services.crypto import sha
from services.domain import AccountRole, UserId
from services.domain.accounts import Invitation, SignUps
from services.domain.addresses import checked_address
from services.domain.models import ModelPrices, ModelSettings
from services.errors import BadInput
from services.store.backend import GuardedAdministration, SignUpState

_CODE_BYTES = 16
_KNOWN_PRICES = dict.fromkeys(each.name for each in fields(ModelPrices))


@dataclass(frozen=True, slots=True)
class UserAccess:
    """Ends sessions and accounts. Live turns are settled first; otherwise they would cost their whole reservations."""

    administration: GuardedAdministration = field(repr=False)
    # stops the live turns of a user in this process, and waits until they are settled
    stop_turns: Callable[[UserId], object]
    # raises SignedOut if another process has replaced the cookie of the admin's session; not needed in routes, which
    # check this themselves
    confirm: Callable[[], object] = lambda: None
    # forgets a user's sessions of this process that have ended
    forget: Callable[[UserId], object] = lambda _: None

    def suspend(self, user_id: UserId, *, is_suspended: bool) -> None:
        """Suspend the account and end its sessions and live turns, or lift the suspension.

        Raise LastAdmin if the user is the last admin.
        """
        if is_suspended:
            self._stop_turns(user_id, is_shut=True)
        self.administration.suspend(user_id, is_suspended=is_suspended)
        self.forget(user_id)

    def sign_out(self, user_id: UserId) -> None:
        """End all sessions and live turns of a user."""
        self._stop_turns(user_id, is_shut=False)
        self.administration.sign_out(user_id)
        self.forget(user_id)

    def delete(self, user_id: UserId) -> None:
        """Delete an account: its keys immediately, its rows soon after. Its usage figures are kept.

        Raise LastAdmin if the user is the last admin.
        """
        self._stop_turns(user_id, is_shut=True)
        self.administration.delete(user_id)
        self.forget(user_id)

    def _stop_turns(self, user_id: UserId, *, is_shut: bool) -> None:
        # the checks come first, so that a refused change stops no turn
        self.confirm()
        self.administration.check_end(user_id, is_shut=is_shut)
        self.stop_turns(user_id)


@dataclass(frozen=True, slots=True)
class ModelAdministration:
    """Reads and changes the settings of models. Changes by non-admins raise AdminsOnly."""

    administration: GuardedAdministration = field(repr=False)
    cached: CachedRead[ModelSettings] = field(repr=False)  # the settings that this process applies

    def settings(self) -> ModelSettings:
        """Return the settings that this process applies, at most a few seconds old."""
        return self.cached.get()

    def set_price(self, name: str, prices: ModelPrices | None) -> None:
        """Set a model's prices; None: use the app's built-in prices. Raise BadInput if cached input costs more than input."""
        # a prompt's cost is reserved at the price of uncached input, so cached input must not cost more
        if prices and prices.cached_input_micro > prices.input_micro:
            raise BadInput("Cached input cannot cost more than input.")
        self._set(name, asdict(prices) if prices else _KNOWN_PRICES)

    def offer(self, name: str, *, is_offered: bool) -> None:
        self._set(name, {"is_offered": is_offered})

    def _set(self, name: str, changes: Mapping[str, object]) -> None:
        self.administration.set_model(name, changes)
        self.cached.outdate()

    def refuse_unknown_prices(self, *, is_refused: bool) -> None:
        """Refuse models without a known price if *is_refused*; otherwise, treat them as free."""
        self.administration.refuse_unknown_prices(is_refused=is_refused)
        self.cached.outdate()


@dataclass(frozen=True, slots=True)
class SignUpAdministration:
    """The mode of sign-ups, the confirmation of addresses, and the invitations, whose codes are stored as hashes.

    Calls by non-admins raise AdminsOnly.
    """

    administration: GuardedAdministration = field(repr=False)
    # the sign-up settings that this process applies
    cached: CachedRead[SignUpState] = field(repr=False)
    # true if the store's own sign-in confirms addresses (`SignIn.confirms_addresses`)
    is_confirmed_elsewhere: Callable[[], bool] = field(repr=False)

    def mode(self) -> SignUps:
        """Return the sign-up mode that this process applies, at most a few seconds old."""
        return self.cached.get().mode

    def set_mode(self, mode: SignUps) -> None:
        self.administration.set_sign_ups(mode)
        self.cached.outdate()

    def confirms_by_code(self) -> bool:
        """Return True if new users must confirm their addresses by mailed codes; without mail, this rule has no effect.

        The answer is at most a few seconds old.
        """
        return self.cached.get().confirms_by_code

    def confirm_by_code(self, *, is_on: bool) -> None:
        """Store whether new addresses must be confirmed by a code. Raise BadInput if Supabase Auth confirms them already."""
        if is_on and self.is_confirmed_elsewhere():
            raise BadInput("Supabase Auth confirms addresses: switch that off first.")
        self.administration.confirm_by_code(is_on=is_on)
        self.cached.outdate()

    def invite(self, email: str, role: AccountRole) -> str:
        """Create an invitation for *email*, or for anyone if *email* is empty; return the code, which is stored only as a hash.

        Raise BadAddress, BadInput (too many are open).
        """
        address = checked_address(email) if email else None
        code = secrets.token_urlsafe(_CODE_BYTES)
        self.administration.invite(sha(code), address, role)
        return code

    def invitations(self) -> list[Invitation]:
        """Return the open invitations, then the newest of the others, at most 500 in all."""
        return self.administration.invitations()

    def revoke(self, invitation: UUID) -> None:
        """Revoke an open invitation. Raise NotFound if there is none, or it was already used or revoked."""
        self.administration.revoke_invitation(invitation)
