"""Concepts that nobody labelled, found as directions of a layer's features; works on features, and knows no model."""
