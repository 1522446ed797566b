"""Analysis of the record: the answer, its statistics, comparisons, costs."""
