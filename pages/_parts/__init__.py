"""Parts of pages that several pages share or that form one topic."""
