"""The concept bottleneck model of Koh et al. 2020."""
