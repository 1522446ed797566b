"""Data: where samples come from, what they become, and how they lie on a device."""
