"""The confirmed model of a run, loaded for prediction."""
