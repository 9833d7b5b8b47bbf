"""A store in the memory of this process, for temporary chats and tests."""
