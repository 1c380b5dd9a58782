"""Sockets and addresses: how they are made, watched and kept to those with the key."""
