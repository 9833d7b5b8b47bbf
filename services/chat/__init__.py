"""The turns of a conversation, from the prompt to the stored and paid reply, and the background calls after replies."""
