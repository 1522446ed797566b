"""The confirmed model of a run, loaded and asked."""
