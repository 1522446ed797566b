"""Loggers that a sweep is exported to while it runs: MLflow, TensorBoard, Weights & Biases, Optuna, functions."""
