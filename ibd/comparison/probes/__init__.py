"""What is measured on models for the metrics of explanations: tables of predictions, explanations of changed images.

A probe owns its passes: it takes tensors, a model and explanations, asks for each distinct image once, in batches that
fit into memory, and leaves the model as it was. The numbers come from ``ibd.metrics.functional``.
"""
