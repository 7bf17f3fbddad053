"""What each setting is worth: trainings that differ from a base by one setting, judged by validation cells."""
