"""A plain CNN: the yardstick, whose units are the unnamed channels of its last feature map."""
