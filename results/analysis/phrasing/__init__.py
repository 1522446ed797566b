"""Sentences of an answer, made last and in this one place: `findings` holds what they say as data."""
