"""Data sets on disk: shards that can be made again, a manifest, a card."""
