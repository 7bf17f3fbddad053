"""Benchmarks: one file per claim, one command each; they print ratios from one run on one machine."""
