"""Search in the messages of one user: the words of a text, and an index of them in memory."""
