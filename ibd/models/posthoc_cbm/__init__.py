"""A concept bottleneck on a network that is trained already: concepts are directions of its features."""
