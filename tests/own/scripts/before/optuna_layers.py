"""Handwritten digits with up to three layers, as an Optuna objective with conditional widths and pruning."""

import optuna
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier


def objective(trial):
    layers = trial.suggest_int("layers", 1, 3)
    widths = [trial.suggest_int(f"width_{layer}", 8, 64, log=True) for layer in range(layers)]
    lr = trial.suggest_float("lr", 1e-4, 1e-1, log=True)
    x, x_val, y, y_val = train_test_split(*load_digits(return_X_y=True), test_size=0.3, random_state=0)
    network = MLPClassifier(widths, learning_rate_init=lr)
    for epoch in range(5):
        network.partial_fit(x / 16, y, classes=range(10))
        loss = log_loss(y_val, network.predict_proba(x_val / 16))
        trial.report(loss, epoch)
        if trial.should_prune():
            raise optuna.TrialPruned
    return loss


if __name__ == "__main__":
    study = optuna.create_study(direction="minimize", pruner=optuna.pruners.SuccessiveHalvingPruner())
    study.optimize(objective, n_trials=6)
    print(study.best_params)
