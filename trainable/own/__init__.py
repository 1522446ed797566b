"""Trainings that a user wrote: a function, an Optuna objective or a program, each as a stream of reports."""
