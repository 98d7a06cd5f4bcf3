"""How sure a trained model may be called: calibrated probabilities, sets of classes, and when it should not answer."""
