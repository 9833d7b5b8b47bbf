"""The signed-in user of this browser tab, navigation by callbacks, and the errors of callbacks."""

from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

import streamlit as st
from streamlit.navigation.page import Page

from pages import sign_in
from pages._parts import new_conversation, outage, words
from pages._streamlit import CALLBACKS, UNSENT, uninterrupted
from services import bootstrap
from services.bootstrap import UserServices
from services.domain import AccountRole, ConversationId, SpaceId
from services.errors import AppError, NotFound, SignedOut, StoreUnavailable

CHAT = "pages/chat.py"
SPACE = "s"  # in the address: the space whose conversations are listed


@dataclass(frozen=True, slots=True)
class Refusal:
    """The reason why a callback failed, and the prompt that it should have sent."""

    sentence: str
    prompt: str = field(repr=False)
    place: ConversationId | None = None  # the conversation of the prompt; None: a fresh page
    error: AppError | None = field(default=None, compare=False)


def find_user() -> UserServices:
    """Return the services of the signed-in user. Raise SignedOut, StoreUnavailable.

    A tab sends its session once, when it connects; so every run, callback and dialog asks again. A check of the session
    goes beside the run: `rerun_if_ended` has the result.
    """
    user = bootstrap.user_services(_session_id())
    if user is None:
        raise SignedOut
    return user


def rerun_if_ended() -> None:
    """Rerun to the sign-in page if the session has ended: this run read nothing and drew an old state."""
    session_id = _session_id()
    if session_id and bootstrap.has_ended(session_id):
        st.rerun()


def _doubt_session() -> None:
    if session_id := _session_id():
        bootstrap.doubt(session_id)


def _session_id() -> str | None:
    session_id = st.user.get("sid")
    return session_id if isinstance(session_id, str) else None


def signed_in() -> UserServices | None:
    """Return the services of the signed-in user, if any; end the run while the database is away and the user unknown."""
    try:
        return find_user()
    except SignedOut:
        return None
    except StoreUnavailable:
        outage.wait()
        return st.stop()


def user_services() -> UserServices:
    """Return the services of the signed-in user, or end the run at the sign-in page."""
    user = signed_in()
    if user is None:
        sign_in.page()
        st.stop()
    return user


@contextmanager
def show_errors() -> Generator[None]:
    """Draw an AppError as its sentence, and SignedOut as the sign-in page."""
    try:
        yield
    except SignedOut:
        _doubt_session()
        sign_in.page()
        st.stop()
    except NotFound as error:
        rerun_if_ended()
        st.error(error.public)
        st.caption("It may have been deleted, or it belongs to another account.")
        st.button("Start a new chat", key="way-out", on_click=go_to_conversation, args=[None])
    except AppError as error:
        st.error(error.public)


def draw_uncaught(error: Exception) -> bool:
    """Draw an AppError that a callback or a fragment let through, as `show_errors` would. Return False for a bug."""
    match error:
        case SignedOut():
            _doubt_session()
            sign_in.page()
        case AppError():
            st.error(error.public)
        case _:
            return False
    return True


def reason(error: AppError) -> str:
    """Return the sentence of *error* in Markdown, for the role of its reader."""
    is_for_all = error.for_admins == error.public
    if is_for_all or find_user().account.role is not AccountRole.ADMIN:
        return words.sentence(error)
    return error.for_admins


def go_to_conversation(conversation_id: ConversationId | None) -> None:
    """Have the next run go to a conversation, or to another fresh page. For callbacks."""
    new_conversation.forget()
    st.session_state.destination = address(conversation_id)


def go_to_space(space_id: SpaceId | None, *, is_staying: bool) -> None:
    """Have the next run list one space, or all, beside the open conversation or a fresh page. For callbacks."""
    new_conversation.forget()
    here = {name: value for name, value in st.query_params.items() if is_staying and name != SPACE}
    st.session_state.destination = here | ({SPACE: str(space_id)} if space_id else {})


def address(conversation_id: ConversationId | None) -> dict[str, str]:
    """Return the query of a conversation, or of a fresh page, in the open space."""
    conversation = {"c": str(conversation_id)} if conversation_id else {}
    space = st.query_params.get(SPACE)
    return conversation | ({SPACE: space} if space else {})


def go_to_destination(page: Page) -> None:
    """Go from *page* to the destination that a callback left. A new address is a step that Back undoes."""
    destination: dict[str, str] | None = st.session_state.pop("destination", None)
    if destination is None:
        return
    if page.url_path:
        st.switch_page(CHAT, query_params=destination)
    st.query_params.from_dict(destination)


def ask_for(dialog: Callable[..., None], *args: object) -> None:
    """Have the next run open *dialog*; a run that follows a reply would hear nothing in it."""
    st.session_state.dialog = dialog, args


def open_dialog() -> bool:
    """Draw the news that the last dialog left, and open the one that was asked for; return whether there was one."""
    if news := st.session_state.pop("news", None):
        st.toast(news)
    asked: tuple[Callable[..., None], tuple[object, ...]] | None
    asked = st.session_state.pop("dialog", None)
    if asked is None:
        return False
    dialog, args = asked
    dialog(*args)
    return True


@dataclass(slots=True)
class Callbacks:
    """The state that callbacks leave for the page."""

    # until `forget`: another run may cut short the one that draws them
    refusals: list[Refusal] = field(default_factory=list[Refusal])
    running: int = 0  # of runs that were replaced
    ended: int = 0  # ever: a run that finds more than at its start may have drawn an old state
    left: set[ConversationId] = field(default_factory=set[ConversationId])  # for good

    def keep(self, refusal: Refusal) -> None:
        """Have the page draw *refusal* and put its prompt back."""
        if refusal not in self.refusals and refusal.place not in self.left:
            self.refusals.append(refusal)

    def forget(self, drawn: Collection[Refusal]) -> None:
        self.refusals = [refusal for refusal in self.refusals if refusal not in drawn]

    def leave(self, place: ConversationId) -> None:
        """Drop present and later refusals of *place*, a conversation that cannot be opened again."""
        self.left.add(place)
        self.refusals = [refusal for refusal in self.refusals if refusal.place != place]


def callbacks() -> Callbacks:
    return st.session_state.setdefault(CALLBACKS, Callbacks())


@contextmanager
def keep_errors(
    prompt: str = "", place: ConversationId | None = None, *, is_unsent_kept: bool = True
) -> Generator[None]:
    """In a callback, which runs before anything is drawn: keep an AppError for the page to draw.

    *is_unsent_kept*: a user who was signed out meanwhile gets the prompt back.
    """
    with uninterrupted():
        kept = callbacks()
        kept.running += 1
        try:
            yield
        except SignedOut:  # the next run draws the sign-in page
            st.session_state[UNSENT] = (
                prompt if is_unsent_kept else ""
            )  # before its tabs are closed
            _doubt_session()
        except AppError as error:
            kept.keep(Refusal(words.sentence(error), prompt, place, error))
        finally:
            kept.running -= 1
            kept.ended += 1


def attempt(act: Callable[..., None], *args: object) -> None:
    """Call *act* and keep its AppError for the page to draw. A callback."""
    with keep_errors():
        act(*args)
