"""Cross-validation of the built-in training: a trial trains one model a fold, and a search has its own test part."""
