"""Concept bottlenecks whose concepts depend on each other."""
