"""Proofs of who is signed in (re-authentication). Each proof gives the session a new cookie, set by the response.

The previous cookie is no longer valid.
"""

from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import Response

from services.errors import SignedOut
from services.store.accounts import AppSession, Checked, Cookie
from services.users import Shared
from services.web.origin import Origin


@dataclass(slots=True)
class Proof:
    """Stores one request's proof of who is signed in, and sets the session's new cookie in the response."""

    request: Request = field(repr=False)
    origin: Origin
    # the new cookie and its lifetime in seconds, once the proof is stored
    _given: tuple[Cookie, int] | None = None

    def note(self, shared: Shared, session: AppSession, checked: Checked) -> None:
        """Store the proof given in *session*, and mark the cached sign-in details (which have times of last use) as outdated.

        This call blocks. Raise SignedOut (also if another proof has replaced the browser's cookie), and the errors of
        `Accounts.prove`.
        """
        cookie = self.origin.session_cookie(self.request)
        if cookie is None:
            raise SignedOut
        cache = shared.session_cache
        new = cache.prove(session, cookie, checked)
        shared.outdate_sign_in_details(session.user_id)
        self._given = new, cache.accounts.lifetime_seconds

    def finish(self, answer: Response) -> Response:
        """Return *answer* with the new cookie, if there is one."""
        if self._given:
            cookie, seconds = self._given
            self.origin.set_cookie(answer, self.request, "sid", str(cookie), seconds)
        return answer
