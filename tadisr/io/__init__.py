"""Files, messages and progress: what every other part stands on. Nothing here imports torch."""
