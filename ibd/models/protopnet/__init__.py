"""Prototype networks: this looks like that."""
