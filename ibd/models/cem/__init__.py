"""The concept embedding model of Espinosa Zarlenga et al. 2022."""
