"""B-cos networks (Boehle et al. 2022, 2024): the output is a sum over the pixels, by a map made for the image."""
