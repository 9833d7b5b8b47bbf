"""Parts of pages: one module per topic."""
