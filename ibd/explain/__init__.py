"""Explanations and the pictures of them. Works on any network through its outputs; imports no model."""
