"""Text: what it says, its fonts, its shapes, and how its letters are made."""
