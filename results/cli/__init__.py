"""The commands of `rungwise`."""
