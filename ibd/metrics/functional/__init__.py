"""What explanations score: pure functions over tensors, without a model and without a gradient.

They take tensors of any device and precision, compute in float64, and return a value for every sample, NaN where it is
undefined. A sample's value never depends on the others of its batch.
"""
