"""A driver at work: its session, its record, its signals."""
