"""The turns of a conversation, from prompt to settled reply, and background calls."""
