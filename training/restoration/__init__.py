"""Training of TADiSR."""
