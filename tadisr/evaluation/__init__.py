"""Evaluation: one frozen protocol for any super-resolution method, on any set of LR and HR pairs with text."""
