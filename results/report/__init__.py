"""The report of a run: one HTML page with the answer, its evidence and plots."""
