"""``ibd card``: what was measured of a run, and nothing else, on one page for the people who decide."""
