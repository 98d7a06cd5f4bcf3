"""Ratios of times, measured side by side in one run: ``python -m benchmarks``.

A benchmark is a file with a function ``measure(repetitions)`` that returns rows, and a line in `BENCHMARKS`.
"""

BENCHMARKS = (
    "cbm_step",
    "toybirds",
    "intervention",
    "prototypes",
    "memory_layout",
    "concept_whitening",
    "whitened_network",
    "explainers",
    "lrp",
    "feature_visualization",
    "explainer_costs",
    "localization",
    "faithfulness",
    "bcos",
    "predicting",
)
"""The names, in the order of the table; each is a module of this package."""
