"""Measuring models and explanations against the truth and against each other."""
