"""Mail to users: its words, its queue, and the sending."""
