"""Cluster jobs of the one entry point, `lingshu train`: a SLURM script, a GKE JobSet; rendered, not submitted."""
