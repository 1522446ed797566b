"""Handwritten digits with a linear classifier, as a function for Ray Tune."""

import pickle
from pathlib import Path

from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

from rungwise import FloatDistribution, Sweep, main


def train(config, trial):
    x, x_val, y, y_val = train_test_split(*load_digits(return_X_y=True), test_size=0.3, random_state=0)
    classifier, first = SGDClassifier(loss="log_loss", learning_rate="constant", **config), 0
    if trial.checkpoint:
        first, classifier = pickle.loads((trial.checkpoint / "state.pkl").read_bytes())
    for epoch in range(first, trial.epochs):
        classifier.partial_fit(x / 16, y, classes=range(10))
        loss = log_loss(y_val, classifier.predict_proba(x_val / 16))
        trial.report(val_loss=loss)
        with trial.save() as folder:
            (Path(folder) / "state.pkl").write_bytes(pickle.dumps((epoch + 1, classifier)))


if __name__ == "__main__":
    space = {"alpha": FloatDistribution(1e-6, 1e-1, log=True), "eta0": FloatDistribution(1e-3, 1.0, log=True)}
    main(Sweep("ray_tune_digits", space, train=train, metric="val_loss", trials=6, epochs=9))
