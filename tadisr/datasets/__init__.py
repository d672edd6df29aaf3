"""Data sets as they come: one reader each, for evaluation, training and synthesis. Nothing here imports torch."""
