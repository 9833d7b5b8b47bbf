"""A page of Streamlit with a line on it: what `page` compares the opening of a page with."""

import streamlit as st

st.text("Empty")
