"""Small changes of an image that change a prediction, for those who test how steady a model of theirs is."""
