"""What a user sees while a sweep runs, and at its end."""
