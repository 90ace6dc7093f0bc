"""What users see of a run: the summary at its end and the matrix in it."""
