"""Training of TextDiff and of its recogniser: settings and lines."""
