"""Results on real cells: what a task is, how its steps are done, and the tables that are read from its evaluations."""
