"""Concept whitening (Chen, Bei and Rudin 2020): a latent space whose axes mean named concepts."""
