"""Breast cancer with a linear classifier of scikit-learn; the score is the mean over folds."""

import json

from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from rungwise import FloatDistribution, Sweep, main


def train(config, trial):
    x, y = load_breast_cancer(return_X_y=True)
    folds = list(StratifiedKFold(5, shuffle=True, random_state=0).split(x, y))
    scores = json.loads((trial.checkpoint / "scores.json").read_text()) if trial.checkpoint else []
    for inside, outside in folds[len(scores) :]:
        classifier = SGDClassifier(alpha=config["alpha"], eta0=config["eta0"], learning_rate="constant")
        pipeline = make_pipeline(StandardScaler(), classifier).fit(x[inside], y[inside])
        scores.append(f1_score(y[outside], pipeline.predict(x[outside])))
        yield {"val_f1": sum(scores) / len(scores)}
        with trial.save() as folder:
            (folder / "scores.json").write_text(json.dumps(scores))


if __name__ == "__main__":
    space = {"alpha": FloatDistribution(1e-6, 1e-1, log=True), "eta0": FloatDistribution(1e-3, 1.0, log=True)}
    main(Sweep("sklearn_folds", space, train=train, metric="val_f1", mode="max", trials=6, epochs=5))
