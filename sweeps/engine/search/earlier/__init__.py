"""Trials that other tools ran, for `--warm-start`: Optuna studies, tables, MLflow experiments."""
