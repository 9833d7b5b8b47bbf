"""The pages: one module per screen. Streamlit draws nothing if one of these files is run directly."""
