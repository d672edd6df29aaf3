"""HR pages: a background, text rendered or pasted onto it, and the exact mask."""
