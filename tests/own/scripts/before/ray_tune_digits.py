"""Handwritten digits with a linear classifier, as a function for Ray Tune."""

import pickle
import tempfile
from pathlib import Path

from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import ConcurrencyLimiter
from ray.tune.search.optuna import OptunaSearch
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split


def train(config):
    x, x_val, y, y_val = train_test_split(*load_digits(return_X_y=True), test_size=0.3, random_state=0)
    classifier, first = SGDClassifier(loss="log_loss", learning_rate="constant", **config), 0
    if checkpoint := tune.get_checkpoint():
        with checkpoint.as_directory() as folder:
            first, classifier = pickle.loads((Path(folder) / "state.pkl").read_bytes())
    for epoch in range(first, 9):
        classifier.partial_fit(x / 16, y, classes=range(10))
        loss = log_loss(y_val, classifier.predict_proba(x_val / 16))
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "state.pkl").write_bytes(pickle.dumps((epoch + 1, classifier)))
            tune.report({"val_loss": loss}, checkpoint=tune.Checkpoint.from_directory(folder))


if __name__ == "__main__":
    search = ConcurrencyLimiter(OptunaSearch(metric="val_loss", mode="min"), max_concurrent=2)
    space = {"alpha": tune.loguniform(1e-6, 1e-1), "eta0": tune.loguniform(1e-3, 1.0)}
    settings = tune.TuneConfig(
        metric="val_loss", mode="min", search_alg=search, scheduler=ASHAScheduler(max_t=9), num_samples=6
    )
    tune.Tuner(train, param_space=space, tune_config=settings).fit()
