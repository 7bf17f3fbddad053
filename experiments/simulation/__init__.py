"""What one can ask of a trained run: cells for conditions, completed and changed cells, likelihoods, effects."""
