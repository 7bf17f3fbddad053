"""Training: state, optimizer, step, loop and checkpoints, over arrays and batches, never files of cells."""
