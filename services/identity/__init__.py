"""Emails to users, and the protocols of sign-in methods: single sign-on, passkeys, and one-time codes."""
