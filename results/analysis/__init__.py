"""What the record means: the answer, its statistics, comparisons, costs."""
