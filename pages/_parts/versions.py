"""New versions of messages: edited in place, or regenerated with another model or memory policy."""

from collections.abc import Mapping

import streamlit as st

from pages._parts import turns, words
from pages._parts.temporary import services_of
from pages._session import attempt
from pages._tab import tab
from services.bootstrap import ChatParts
from services.domain import ConversationId, MemoryPolicy, Message, MessageId, Role
from services.errors import ModelGone


def edit(message_id: MessageId) -> None:
    """Make the next run draw the message in a text field, so that it can be edited. For use in callbacks."""
    tab().edited_message, tab().stored_edit = message_id, None


def is_edited(message: Message) -> bool:
    """Return True if *message* is being edited."""
    return tab().edited_message == message.id


def draw_field(conversation_id: ConversationId, message: Message, model: str) -> None:
    """Draw a field for editing *message*. `assets/page/edit.js` handles Escape; a refused text stays in the field.

    *model*: the model that the page shows.
    """
    key, is_prompt = f"text-of-{message.id}", message.role is Role.USER
    with (
        st.container(key="edit-prompt" if is_prompt else "edit-reply"),
        st.form("message", border=False),
    ):
        label = "Edit message" if is_prompt else "Edit reply"
        st.text_area(label, message.body, height="content", key=key, label_visibility="collapsed")
        if not is_prompt:
            st.caption("Saved as a new version. Later messages stay with the previous version.")
        # the stylesheet places the buttons from right to left; Ctrl+Enter presses the first
        with st.container(horizontal=True, key="message-buttons"):
            st.form_submit_button(
                "Send" if is_prompt else words.SAVE,
                type="primary",
                key="send-message",
                on_click=attempt,
                args=[_save, conversation_id, message, key, model],
            )
            st.form_submit_button(words.CANCEL, key="leave-message", on_click=_leave)


def choices(services: ChatParts) -> Mapping[str, str | MemoryPolicy]:
    """Return the models and policies with which a reply can be regenerated, by label."""
    names = [offer.info.name for offer in services.offers]
    models = {name: name for name in names} if len(names) > 1 else {}
    policies = {
        f"{words.CONTEXT}: {words.policy_name(one)}": one for one in services.choices.policies()
    }
    return {**models, **policies}


def regenerate(
    conversation_id: ConversationId, reply_id: MessageId, choice: str, seen_model: str
) -> None:
    """Regenerate a reply with the model or policy that the label *choice* names.

    *seen_model*: the model that the page showed. Raise ModelGone if *choice* is no longer offered.
    """
    chosen = choices(services_of(conversation_id)).get(choice)
    if isinstance(chosen, str):
        turns.retry(conversation_id, reply_id, seen_model, model=chosen)
    elif chosen:
        turns.retry(conversation_id, reply_id, seen_model, policy=chosen)
    else:
        raise ModelGone


def _save(conversation_id: ConversationId, message: Message, key: str, model: str) -> None:
    if not is_edited(message):  # true for the second of two quick clicks
        return
    chat = services_of(conversation_id).chat
    text = str(st.session_state[key])
    if message.role is Role.USER:
        chat.edit_prompt(conversation_id, message.id, text, seen_model=model)
    else:
        chat.edit_reply(conversation_id, message.id, text)
    _leave()
    tab().stored_edit = message.id
    turns.show(None)


def _leave() -> None:
    tab().edited_message = None
