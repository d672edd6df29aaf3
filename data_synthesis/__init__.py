"""Making training data: pages and lines of text with exact masks, and their LR images."""
