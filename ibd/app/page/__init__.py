"""The page of `ibd serve`: look at what a model saw, correct it, and take the result along."""
