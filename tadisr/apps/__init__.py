"""tadisr inside other programs."""
