"""``ibd repeat``: several trainings of one config, by seeds or by folds, and what is sure of their figures."""
