"""``ibd serve``: a local page on which a person looks at a model, corrects it, and takes the result along."""
