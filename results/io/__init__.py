"""Files, paths, text and secrets: the doors to the world outside."""
