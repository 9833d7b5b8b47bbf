"""The sessions of a process that has one, for routes that serve signed-in tabs."""

from types import SimpleNamespace
from uuid import uuid4

from services.store.accounts import Cookie


class OneSession:
    """Stands in for `Shared`, its session cache and the services of its one user; a subclass has what a route asks for."""

    def __init__(self):
        self.cookie, self.forgotten, self.failure = Cookie.new(), [], None
        self.session = SimpleNamespace(id=uuid4())

    @property
    def session_cache(self):
        return self

    def find_unchecked(self, session_id):
        return self if session_id == self.session.id else None

    def opened(self, cookie):
        return self.session if cookie == self.cookie else None

    def forget_if_ended(self, sessions):
        self.forgotten += sessions
