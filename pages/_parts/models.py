"""The choice of a conversation's model, and notices about the choice."""

from dataclasses import replace

import streamlit as st

from pages._parts import new_conversation, safe_md, words
from pages._parts.elements import key_showing, popover, quiet_button
from pages._parts.temporary import services_of
from pages._session import ask_for, attempt, find_user, tell
from services import bootstrap
from services.bootstrap import ChatParts, ThreadView
from services.domain import ConversationId, Role
from services.domain.models import LimitSource, ModelInfo, ModelState, PriceSource
from services.errors import InstructionsTooLong, PriceUnknown

_START = "uv run streamlit run streamlit_app.py"
_CONNECT_LINES = {
    "OpenAI": f"OPENAI_API_KEY=sk-... DAYBOOK_MODEL=gpt-4.1-mini {_START}",
    "Ollama (use the same context length in both places)": (
        "OLLAMA_CONTEXT_LENGTH=16384 ollama serve & "
        "OPENAI_BASE_URL=http://localhost:11434/v1 DAYBOOK_MODEL=llama3.1:8b "
        f"DAYBOOK_CONTEXT_TOKENS=16384 {_START}"
    ),
    "Any other OpenAI-compatible endpoint": (
        f"OPENAI_BASE_URL=https://llm.example/v1 OPENAI_API_KEY=... DAYBOOK_MODEL=... {_START}"
    ),
}
_SOURCES = {
    LimitSource.REFUSAL: "after a refusal",
    LimitSource.SETTING: "set by admin",
    LimitSource.ENDPOINT: "provider",
    LimitSource.LISTED: "price list",
    LimitSource.TABLE: "known",
    LimitSource.GUESS: "estimate",
}


def line(services: ChatParts) -> str:
    """Return a line of plain text with the default model and, if that is the local model, its state."""
    name = services.choices.setup(None).offer.info.name
    match bootstrap.current_app().health.model:
        case ModelState.REMOTE:
            return f"Model: {name}"
        case ModelState.STARTING:
            return "The local model is starting…"
        case ModelState.FAILED:
            return "The local model is not running; retrying every few minutes."
        case ModelState.READY:
            return f"Model: {name}, a tiny demo model: expect poor answers."


def draw_line(services: ChatParts) -> None:
    st.caption(safe_md.label(line(services), 120), width="stretch")


def draw_connect_card() -> None:
    """Unless a remote model is connected, draw a card that says so, with folded instructions for connecting a better one."""
    if bootstrap.current_app().health.model is not ModelState.REMOTE:
        with st.container(border=True, key="connect-model", gap="xsmall"):
            st.markdown("You're using a tiny demo model: expect poor answers.")
            st.markdown("Connect a better model for real use.")
            with st.expander("How to connect a model", key="connect-lines", type="compact"):
                _draw_connect_lines()


@st.dialog(words.CONNECT, width="medium", on_dismiss="rerun")
def connect_dialog() -> None:
    """Draw instructions for connecting a better model."""
    _draw_connect_lines()


def _draw_connect_lines() -> None:
    st.caption(
        "To connect a better model, stop Daybook (Ctrl-C) and start it with one of these lines. If you set `DAYBOOK_STORE` "
        "or other settings before, keep them in front of `uv run`: in another store, your chats are missing."
    )
    for name, line in _CONNECT_LINES.items():
        st.markdown(f"**{name}**")
        st.code(line, language="bash", wrap_lines=True)


def draw_picker(services: ChatParts, view: ThreadView) -> None:
    """Draw the menu that selects a conversation's model."""
    offers = (*services.offers, view.setup.offer)
    offered = {offer.info.name: offer.info for offer in offers}
    conversation_id = None if view.is_new else view.thread.conversation.id
    default = services.choices.setup(None)
    usual = default.offer.info.name  # the user's default model
    name = view.setup.offer.info.name
    key = key_showing(f"model-{conversation_id or 'new'}", name)
    with popover(safe_md.label(name, 40), "neurology", "model-picker").container(width=340):
        if bootstrap.current_app().health.model is not ModelState.REMOTE:
            draw_line(services)
            quiet_button(words.CONNECT, "add_link", "connect", ask_for, connect_dialog)
            return
        st.radio(
            words.MODEL,
            list(offered),
            list(offered).index(name),
            format_func=safe_md.label,
            captions=[_caption(info, is_usual=info.name == usual) for info in offered.values()],
            key=key,
            on_change=lambda: attempt(choose, conversation_id, str(st.session_state[key])),
        )
        st.caption("Limits in tokens, prices per 1M tokens")
        if name != usual or default.missing_model:
            tip = "Used for new chats, and for chats where no model was chosen."
            label, args = "Make this my default", (_make_default, name)
            quiet_button(label, "person_check", "make-default", *args, tip=tip)


def draw_notices(services: ChatParts, view: ThreadView) -> None:
    """Draw notices about chosen models, preferences and instructions that cannot be used.

    The notice about a missing model ends when another model is chosen or, if only one is left, with its first reply.
    """
    setup = view.setup
    if setup.missing_model and not (len([*services.offers]) == 1 and _has_replied(view)):
        missing, name = safe_md.label(setup.missing_model), safe_md.label(setup.offer.info.name)
        st.caption(f":material/info: {missing} is no longer available; using {name}.")
    if setup.preferences.is_newer:
        st.caption(
            ":material/update: Your preferences were saved by a newer version of Daybook and are not used."
        )
    unverified = ["Your preferences"] if not setup.preferences.is_verified else []
    if not view.thread.are_instructions_verified:
        unverified.insert(0, "The instructions of this chat")
    for subject in unverified:
        st.caption(
            f":material/gpp_bad: {subject} failed their integrity check and are not used. "
            "Contact your admin."
        )
    if setup.offer.is_refused:
        st.warning(PriceUnknown().public)
    if setup.is_too_long:
        st.warning(InstructionsTooLong().public)


def _has_replied(view: ThreadView) -> bool:
    """Return True if the model in use has written the last reply."""
    last = [one for one in view.thread.branch() if one.role is Role.ASSISTANT][-1:]
    costs = view.costs(last).values()
    return view.setup.offer.info.name in [cost.model for cost in costs]


def _caption(info: ModelInfo, *, is_usual: bool) -> str:
    """Return two lines on a model's limits, each with its source, and prices."""
    window = f"Context {words.number(info.context_tokens)} ({_SOURCES[info.context_source]})"
    reply = f"Replies {words.number(info.reply_tokens)} ({_SOURCES[info.reply_source]})"
    price = f"{words.price(info.input_micro)} in, {words.price(info.output_micro)} out"
    if info.is_free:
        price = "no price" if info.price_source is PriceSource.UNKNOWN else "free"
    usual = " · your default" if is_usual else ""
    return f"{window}{usual}  \n{reply} · {price}".replace("$", r"\$")


def choose(conversation_id: ConversationId | None, name: str) -> None:
    """Store the model *name* for a conversation, or choose it for the new conversation. For use in callbacks."""
    if conversation_id is None:
        new_conversation.choose_model(name)
    else:
        services_of(conversation_id).conversations.set_model(conversation_id, name)


def _make_default(name: str) -> None:
    find_user().profile.change(lambda now: replace(now, model=name))
    tell(f"{name} is your default model now.")
