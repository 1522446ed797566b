"""Python packages: versions, names that hide them, and our own earlier names."""
