"""Views for other tools: MLflow, Optuna studies, mirrors."""
