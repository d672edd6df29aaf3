"""What all four trainings share: the loop, its configuration, checkpoints, processes, the log."""
