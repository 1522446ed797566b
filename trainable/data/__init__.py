"""Data: sources, conversion to arrays, and tensors on a device."""
