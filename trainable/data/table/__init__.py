"""Tables of the user's as they come: read, typed by column, split, and encoded as numbers."""
