"""``ibd discover``: concepts that nobody labelled, each with a sheet by which a person can name it."""
