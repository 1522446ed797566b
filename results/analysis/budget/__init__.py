"""Effect against budget: which arm is ahead after how many trials of a search."""
