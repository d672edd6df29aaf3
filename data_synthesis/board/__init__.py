"""A frozen test set: 300 images with exact text, drawn from sources that never change, the same pixels everywhere.

Only pinned libraries draw, in whole numbers or in single float64 operations, so that no processor rounds otherwise.
Nothing of it is trained on: fonts, texts and photographs come from packages that no recipe of `training` uses.
"""
