"""Parts of pages, by topic."""
