"""Context plans, token counts and forecasts, and search in earlier messages. Pure."""
