"""The chat of Streamlit's tutorial, which stores nothing: what `benchmarks.first_character` compares with.

`?messages=100` says how many messages it begins with.
"""

import openai
import streamlit as st

if "messages" not in st.session_state:
    st.session_state.client = openai.OpenAI()
    st.session_state.messages = [
        {"role": ("user", "assistant")[n % 2], "content": f"message {n} " + "lorem ipsum " * 20}
        for n in range(int(st.query_params.get("messages", "0")))
    ]

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
