"""``ibd predict ... -o FILE``: predictions of as many images as there are, as one file."""
