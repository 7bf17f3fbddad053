"""The Virtual Cell Challenge's file formats: what each asks of a submission, checked and written."""
