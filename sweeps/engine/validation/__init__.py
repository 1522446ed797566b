"""Everything that can be known to be wrong before Ray starts."""
