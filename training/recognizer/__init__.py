"""Frozen text recognisers as a loss."""
