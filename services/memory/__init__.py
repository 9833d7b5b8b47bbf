"""Context plans for model calls, token counts and forecasts, and search in earlier messages. No I/O."""
