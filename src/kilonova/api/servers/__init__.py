"""Servers, and what hangs on a server: its actions, addresses, metadata, tags."""
