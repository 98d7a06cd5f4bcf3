"""Interpretable CNN: every filter of the last layer stands for one part of the objects of one class."""
