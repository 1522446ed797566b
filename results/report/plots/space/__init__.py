"""Plots of the space: importances, one and two hyperparameters, all of them together."""
