"""The interpretable networks: for each a pure ``network.py`` and a ``lightning.py`` that trains it."""
