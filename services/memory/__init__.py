"""Context plans of conversations, token counts and estimates, and search in earlier messages. Pure."""
