"""The signed-in user of this browser tab, navigation by callbacks, and the errors of callbacks."""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from uuid import UUID

import streamlit as st
from streamlit.navigation.page import Page

from pages import sign_in
from pages._parts import new_conversation, outage, words
from pages._streamlit import uninterrupted
from pages._tab import BarLine, Refusal, tab
from services import bootstrap
from services.bootstrap import UserServices
from services.domain import AccountRole, ConversationId, MessageId, SpaceId
from services.errors import AppError, NotFound, SignedOut, StoreUnavailable

CHAT = "pages/chat.py"
SPACE = "s"  # the URL parameter that names the space whose conversations are listed
FOUND = "at"  # the URL parameter that names the message at which a conversation opens
_OUTCOMES = {  # what was done, keyed by the reason in the URL of any page
    "address-restored": "Your email address is back. All other devices are signed out.",
    "cleared": "This browser is cleared.",
    "password-reset": "Your password was reset. All other devices are signed out.",
}
_CHANGES = {  # likewise, of the forms on the page Account
    "app-removed": "Signing in asks for no code from your app any more. It still asks for a passkey as your second step.",
    "changed": "Password changed. You are signed out everywhere else.",
    "factor-removed": "Two-step verification is off. Signing in asks for no code from your app any more.",
    "identity-added": "Sign-in added. It opens your account from now on.",
    "identity-linked": "You have added this sign-in already.",
    "identity-removed": "Sign-in removed. It no longer opens your account.",
    "last-passkey-removed": "Passkey removed. Two-step verification is off, and your recovery codes no longer work.",
    "passkey-added": "Passkey added. You can use it now.",
    "passkey-asked": "Signing in now asks for a passkey as your second step.",
    "passkey-not-asked": "Signing in no longer asks for a passkey as your second step.",
    "passkey-removed": "Passkey removed. It no longer works here.",
    "password-added": "Password added. You can sign in with it now.",
}
_NEWS = UUID(int=0)  # the id of the line of news in the bar
_NEWS_SECONDS = 8.0  # assets/style.css hides the line after this time
TEMPORARY = {"temporary": "1"}  # the URL query of a page with a temporary chat


def find_user() -> UserServices:
    """Return the services of the signed-in user. Raise SignedOut or StoreUnavailable.

    A tab sends its session cookie only when it connects, so each run, callback and dialog checks that the session still
    exists. The check may run in the background while the page is drawn: `rerun_if_ended` reads its result.
    """
    user = bootstrap.current_app().user(_session_id())
    if user is None:
        raise SignedOut
    return user


def rerun_if_ended() -> None:
    """If the session has ended since this run began, rerun the page, which then shows the sign-in page."""
    session_id = _session_id()
    if session_id and bootstrap.current_app().has_ended(session_id):
        st.rerun()
    # If another run has replaced this run meanwhile, this access to the session state ends this run. If this run
    # ended regularly instead, Streamlit would remove the other run's fragments, and the buttons of a dialog that the
    # other run has opened would do nothing.
    tab()


def _doubt_session() -> None:
    if session_id := _session_id():
        bootstrap.current_app().doubt(session_id)


def _session_id() -> str | None:
    session_id = st.user.get("sid")
    return session_id if isinstance(session_id, str) else None


def signed_in() -> UserServices | None:
    """Return the services of the signed-in user, if any; end the run if an outage prevents finding the user."""
    try:
        return find_user()
    except SignedOut:
        return None
    except StoreUnavailable:
        outage.wait()
        return st.stop()


def user_services() -> UserServices:
    """Return the services of the signed-in user. If no user is signed in, draw the sign-in page and end the run."""
    user = signed_in()
    if user is None:
        sign_in.page()
        st.stop()
    return user


@contextmanager
def show_errors(*, has_way_out: bool = False) -> Generator[None]:
    """If the `with` block raises an AppError, draw its sentence; for SignedOut, draw the sign-in page and end the run.

    *has_way_out*: for NotFound, draw a button that starts a new chat. Dialogs draw none: the page has it once they are closed.
    """
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
        if has_way_out:
            st.button("Start a new chat", key="way-out", on_click=go_to_conversation, args=[None])
    except AppError as error:
        st.error(error.public)


def draw_uncaught(error: Exception) -> bool:
    """Draw the sentence of an AppError that a callback or a fragment raised; for SignedOut, draw the sign-in page.

    Return False for other errors.
    """
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
    """Return the sentence that describes *error*, in Markdown; admins may get a different sentence."""
    is_for_all = error.for_admins == error.public
    if is_for_all or find_user().account.role is not AccountRole.ADMIN:
        return words.sentence(error)
    return error.for_admins


def go_to_conversation(
    conversation_id: ConversationId | None, message_id: MessageId | None = None
) -> None:
    """Make the next run open a conversation, at a message if given, or, if None, the new-chat page. For use in callbacks."""
    new_conversation.forget()
    tab().note_opening(conversation_id, message_id)
    at = {FOUND: str(message_id)} if message_id else {}
    tab().destination = address(conversation_id) | at


def go_to_space(space_id: SpaceId | None, *, is_staying: bool) -> None:
    """Make the next run list the conversations of one space or, if None, all of them. For use in callbacks.

    *is_staying*: keep the open chat.
    """
    new_conversation.forget()
    others = {SPACE, FOUND}
    here = {
        name: value for name, value in st.query_params.items() if is_staying and name not in others
    }
    tab().destination = here | ({SPACE: str(space_id)} if space_id else {})


def address(conversation_id: ConversationId | None) -> dict[str, str]:
    """Return the URL query of a conversation, or of a new chat, in the open space."""
    conversation = {"c": str(conversation_id)} if conversation_id else {}
    space = st.query_params.get(SPACE)
    return conversation | ({SPACE: space} if space else {})


def go_to_destination(page: Page) -> None:
    """Go from *page* to the destination that a callback set. The browser's Back button returns to the old URL."""
    destination, tab().destination = tab().destination, None
    if destination is None:
        return
    if page.url_path:
        st.switch_page(CHAT, query_params=destination)
    st.query_params.from_dict(destination)


def ask_for(dialog: Callable[..., None], *args: object) -> None:
    """Make the next run open *dialog*: in a run that still draws a streaming reply, the dialog's buttons would not work."""
    tab().dialog = dialog, args


def tell(news: str) -> None:
    """Make the next runs show the sentence *news* in the bar at the bottom left (`undo.draw`)."""
    tab().add_line(BarLine(_NEWS, news, until=time.monotonic() + _NEWS_SECONDS))


def tell_outcome() -> None:
    """Show in the bar what the form has done that led to this page; its reason leaves the URL."""
    reason = st.query_params.get("reason", "")
    if news := _OUTCOMES.get(reason) or _CHANGES.get(reason):
        del st.query_params["reason"]
        tell(news)


def go_to_temporary() -> None:
    """Make the next run go to the page of a temporary chat. For use in callbacks."""
    tab().destination = dict(TEMPORARY)


def note_start() -> None:
    """Note that a run of the page begins, for `turns.await_news`. Call this before anything that callbacks change is drawn."""
    here = tab()
    here.drawn_at = time.monotonic()
    here.callbacks.ended_before = here.callbacks.ended


def open_dialog() -> bool:
    """Open the dialog that `ask_for` requested; return True if one was opened."""
    here = tab()
    asked, here.dialog = here.dialog, None
    here.is_dialog_open = asked is not None
    if asked is None:
        return False
    dialog, args = asked
    dialog(*args)
    return True


@contextmanager
def run_to_end() -> Generator[None]:
    """Let the `with` block run to its end even if another run replaces this run, which is drawn again then (`await_news`).

    For callbacks, and for what a dialog does when a button in it is pressed: closing the dialog begins another run.
    """
    with uninterrupted():
        callbacks = tab().callbacks
        callbacks.running += 1
        try:
            yield
        finally:
            callbacks.running -= 1
            callbacks.ended += 1


@contextmanager
def keep_errors(
    prompt: str = "", place: ConversationId | None = None, *, is_unsent_kept: bool = True
) -> Generator[None]:
    """Store an AppError raised by a callback until the page draws it, because callbacks run before the page is drawn.

    *is_unsent_kept*: if the user was signed out meanwhile, keep *prompt* and show it on the sign-in page.
    """
    with run_to_end():
        try:
            yield
        except SignedOut:  # the next run draws the sign-in page
            # stored before `_doubt_session`, which closes the tabs of an ended session unless they have an unsent prompt
            tab().unsent = prompt if is_unsent_kept else ""
            _doubt_session()
        except AppError as error:
            tab().callbacks.keep(Refusal(words.sentence(error), prompt, place, error))


def attempt(act: Callable[..., object], *args: object) -> None:
    """Call *act*; store an AppError that it raises until the page draws it. For use in callbacks."""
    with keep_errors():
        act(*args)
