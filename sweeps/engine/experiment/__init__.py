"""What a sweep asks: script and flags, resolved into one frozen experiment."""
