"""Training: state, optimizer, step, loop and checkpoints, over arrays and batches; files of cells are not known here."""
