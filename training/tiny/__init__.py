"""The making of tadisr-tiny, the bundled model."""
