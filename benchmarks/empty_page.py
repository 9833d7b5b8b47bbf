"""A page of Streamlit with one line: the baseline for the page openings that `page` measures."""

import streamlit as st

st.text("Empty")
