"""Who is stopped early: ASHA, Hyperband, the median rule, patience."""
