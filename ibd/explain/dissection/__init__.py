"""What the channels of layers of any model stand for: dissection by masks, over a data set."""
