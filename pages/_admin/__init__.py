"""The tabs of the admin page."""
