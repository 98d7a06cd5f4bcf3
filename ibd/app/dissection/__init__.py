"""``ibd dissect``: what every channel of layers detects, tables of it, and a page."""
