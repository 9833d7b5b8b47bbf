"""The turns of a conversation, from prompt to settled reply; and what goes on in the background."""
