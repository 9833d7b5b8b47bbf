"""The chat of Streamlit's tutorial, which stores nothing: the baseline of `first_character`, `page` and `people`.

`?messages=100` sets the number of messages at the start; `?others=30,500,0` sets the lengths of the conversations that the
sidebar offers.
"""

import openai
import streamlit as st


def begin(length: int) -> None:
    st.session_state.messages = [
        {"role": ("user", "assistant")[n % 2], "content": f"message {n} " + "lorem ipsum " * 20}
        for n in range(length)
    ]


if "messages" not in st.session_state:
    st.session_state.client = openai.OpenAI()
    begin(int(st.query_params.get("messages", "0")))

with st.sidebar:
    st.button("New chat", key="new-chat", on_click=begin, args=[0])
    for number, length in enumerate(filter(None, st.query_params.get("others", "").split(","))):
        name = f"Conversation {number} of {length}"
        st.button(name, key=f"open-{number}", on_click=begin, args=[int(length)])

for message in st.session_state.messages:
    with st.chat_message(message["role"]):
        st.markdown(message["content"])

if prompt := st.chat_input("Message", key="composer"):
    st.session_state.messages.append({"role": "user", "content": prompt})
    with st.chat_message("user"):
        st.markdown(prompt)
    with st.chat_message("assistant"):
        stream = st.session_state.client.chat.completions.create(
            model="scripted", messages=st.session_state.messages, stream=True
        )
        reply = st.write_stream(stream)
    st.session_state.messages.append({"role": "assistant", "content": reply})
