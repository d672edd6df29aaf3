"""Trust in use: which lines of a restored photo a person should check, without any ground truth."""
