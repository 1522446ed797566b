"""Early stopping: ASHA, Hyperband, the median rule, patience."""
