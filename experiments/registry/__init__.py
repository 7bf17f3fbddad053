"""What the run folders tell: progress and scores of every run, references to them, differences between two."""
