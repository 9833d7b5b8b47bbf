"""Another reply to the same prompt: by another model, or under another memory policy, for once."""

from collections.abc import Mapping

import streamlit as st

from pages._parts import safe_md, turns, words
from pages._parts.temporary import services_of
from pages._session import show_errors
from services.bootstrap import Chat
from services.domain import ConversationId, MemoryPolicy, MessageId

Choices = Mapping[str, str | MemoryPolicy]  # models and policies by their labels
_MENU = "regenerate-with"


def draw_menu(chat: Chat, conversation_id: ConversationId, reply_id: MessageId) -> None:
    """Draw what there is to choose from for the last reply, beside the button that asks for it as usual."""
    choices = _choices(chat)
    st.menu_button(
        words.REGENERATE_WITH,
        list(choices),
        key=_MENU,
        type="tertiary",
        icon=":material/expand_more:",
        on_click=lambda: _regenerate(
            conversation_id, reply_id, choices[str(st.session_state[_MENU])]
        ),
    )


@st.dialog(words.REGENERATE_WITH, width="small", on_dismiss="rerun")
def dialog(conversation_id: ConversationId, reply_id: MessageId) -> None:
    """The same for an earlier reply."""
    with show_errors(), st.container(gap="xxsmall", key="regenerate-panel"):
        for label, choice in _choices(services_of(conversation_id).chat).items():
            args = conversation_id, reply_id, choice
            key = f"again-{choice if isinstance(choice, str) else choice.name}"
            if st.button(
                label, key=key, type="tertiary", width="stretch", on_click=_regenerate, args=args
            ):
                st.rerun()


def _choices(chat: Chat) -> Choices:
    names = [offer.info.name for offer in chat.models]
    models = {safe_md.label(name, 40): name for name in names} if len(names) > 1 else {}
    policies = {f"{words.MEMORY}: {words.policy_name(one)}": one for one in chat.policies()}
    return {**models, **policies}


def _regenerate(
    conversation_id: ConversationId, reply_id: MessageId, choice: str | MemoryPolicy
) -> None:
    if isinstance(choice, str):
        turns.retry(conversation_id, reply_id, model=choice)
    else:
        turns.retry(conversation_id, reply_id, policy=choice)
