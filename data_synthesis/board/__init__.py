"""A frozen test set: 300 images with exact text, drawn from sources that never change, the same pixels everywhere.

Only pinned libraries draw, in whole numbers or in single float64 operations, so that no processor rounds otherwise.
No recipe of `training` draws with its fonts, texts or photographs. One stage of tadisr-tiny saw pages printed out of
TeX Live's manuals, which may show some of the fonts.
"""
