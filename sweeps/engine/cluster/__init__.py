"""Ray and its machines."""
