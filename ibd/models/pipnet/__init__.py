"""PIP-Net: every channel is a prototype, and classes are sums of those that are present."""
