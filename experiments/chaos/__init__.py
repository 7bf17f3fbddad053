"""Injected faults: real commands, damaged while they work, started again as their user would, and compared."""
