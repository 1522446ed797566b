"""Files, paths, text and secrets: input and output."""
