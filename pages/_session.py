"""Who is signed in, in this browser tab; and what is said when something is refused."""

from collections.abc import Collection, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

import streamlit as st
from streamlit.navigation.page import Page

from pages import sign_in
from pages._parts import new_conversation, outage, words
from pages._streamlit import uninterrupted
from services import bootstrap
from services.bootstrap import PersonServices
from services.domain import ConversationId, SpaceId
from services.errors import AppError, NotFound, SignedOut, StoreUnavailable

CHAT = "pages/chat.py"
SPACE = "s"  # in the address: the space whose conversations are listed


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why something was not done; and the prompt, if it was one, for nobody should type twice."""

    sentence: str
    prompt: str = field(repr=False)
    place: ConversationId | None = None  # where the prompt was to be said; None: on a fresh page
    error: AppError | None = field(default=None, compare=False)


def find_person() -> PersonServices:
    """The services of the signed-in user. Raise SignedOut, StoreUnavailable.

    A tab says who it belongs to once, when it connects; so every run, callback and dialog asks again. A check of the session
    goes beside the run: `rerun_if_ended` has the result.
    """
    person = bootstrap.person_services(_session_id())
    if person is None:
        raise SignedOut
    return person


def rerun_if_ended() -> None:
    """Have the sign-in page drawn if the session has ended: reads found nothing in this run, and what it drew is old."""
    session_id = _session_id()
    if session_id and bootstrap.has_ended(session_id):
        st.rerun()


def _doubt_session() -> None:
    if session_id := _session_id():
        bootstrap.doubt(session_id)


def _session_id() -> str | None:
    session_id = st.user.get("sid")
    return session_id if isinstance(session_id, str) else None


def signed_in() -> PersonServices | None:
    """The services of who is signed in, if anybody is; the run ends here while nobody can know."""
    try:
        return find_person()
    except SignedOut:
        return None
    except StoreUnavailable:
        outage.wait()
        return st.stop()


def person_services() -> PersonServices:
    """The services of who is signed in, or the run ends at the sign-in page."""
    person = signed_in()
    if person is None:
        sign_in.page()
        st.stop()
    return person


def is_admin(person: PersonServices) -> bool:
    """Whether *person* is known to be an admin. Where nobody can know, the page will say so."""
    try:
        return person.is_admin
    except AppError:
        return False


@contextmanager
def show_errors() -> Generator[None]:
    """Draw an AppError as its sentence, and the end of a session as the sign-in page."""
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


def go_to_conversation(conversation_id: ConversationId | None) -> None:
    """Have the run that follows go to a conversation, or to another fresh page. For callbacks."""
    new_conversation.forget()
    st.session_state.destination = address(conversation_id)


def go_to_space(space_id: SpaceId | None, *, is_staying: bool) -> None:
    """Have the run that follows list one space, or all, beside what is open or a fresh page. For callbacks."""
    new_conversation.forget()
    here = {name: value for name, value in st.query_params.items() if is_staying and name != SPACE}
    st.session_state.destination = here | ({SPACE: str(space_id)} if space_id else {})


def address(conversation_id: ConversationId | None) -> dict[str, str]:
    """Where a conversation is, or a fresh page, in the space that is chosen."""
    conversation = {"c": str(conversation_id)} if conversation_id else {}
    space = st.query_params.get(SPACE)
    return conversation | ({SPACE: space} if space else {})


def go_to_destination(page: Page) -> None:
    """Go from *page* where a callback led. A new address is a step that Back undoes."""
    destination: dict[str, str] | None = st.session_state.pop("destination", None)
    if destination is None:
        return
    if page.url_path:
        st.switch_page(CHAT, query_params=destination)
    st.query_params.from_dict(destination)


def ask_for(dialog: str, subject: object = None) -> None:
    """Have the page open the dialog of the title *dialog* about *subject* (pages/_parts/dialogs.py). For callbacks."""
    st.session_state.dialog = dialog, subject


@dataclass(slots=True)
class Callbacks:
    """What callbacks leave for the page."""

    # until `forget`: another run may cut short the one that says them
    refusals: list[Refusal] = field(default_factory=list[Refusal])
    at_work: int = 0  # of runs that are over; they have yet to say how it went
    ended: int = 0  # ever: a run that finds more than as it began may not have drawn what they did
    left: set[ConversationId] = field(default_factory=set[ConversationId])  # for good

    def keep(self, refusal: Refusal) -> None:
        """Have the page say it, and the prompt put back."""
        if refusal not in self.refusals and refusal.place not in self.left:
            self.refusals.append(refusal)

    def forget(self, said: Collection[Refusal]) -> None:
        """Drop what was *said*, to the end of a run."""
        self.refusals = [refusal for refusal in self.refusals if refusal not in said]

    def leave(self, place: ConversationId) -> None:
        """Drop the prompts of *place*, where nobody goes back to, and those that are still to be refused."""
        self.left.add(place)
        self.refusals = [refusal for refusal in self.refusals if refusal.place != place]


def callbacks() -> Callbacks:
    return st.session_state.setdefault("callbacks", Callbacks())


@contextmanager
def keep_errors(
    prompt: str = "", place: ConversationId | None = None, *, is_unsent_kept: bool = True
) -> Generator[None]:
    """In a callback, which runs before anything is drawn: keep an AppError for the page to say.

    *is_unsent_kept*: who is signed out meanwhile finds the prompt again.
    """
    with uninterrupted():
        kept = callbacks()
        kept.at_work += 1
        try:
            yield
        except SignedOut:  # the run that follows draws the sign-in page
            _doubt_session()
            st.session_state.unsent = prompt if is_unsent_kept else ""
        except AppError as error:
            kept.keep(Refusal(words.sentence(error), prompt, place, error))
        finally:
            kept.at_work -= 1
            kept.ended += 1
