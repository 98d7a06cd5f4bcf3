"""A person corrects the concepts of many images, one after the other, and what that was worth is written down."""
