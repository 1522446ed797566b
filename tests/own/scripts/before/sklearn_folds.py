"""Breast cancer with a linear classifier of scikit-learn; the score is the mean over folds."""

from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def train(config):
    x, y = load_breast_cancer(return_X_y=True)
    folds = list(StratifiedKFold(5, shuffle=True, random_state=0).split(x, y))
    scores = []
    for inside, outside in folds:
        classifier = SGDClassifier(alpha=config["alpha"], eta0=config["eta0"], learning_rate="constant")
        pipeline = make_pipeline(StandardScaler(), classifier).fit(x[inside], y[inside])
        scores.append(f1_score(y[outside], pipeline.predict(x[outside])))
        print(f"fold {len(scores)}: F1 {sum(scores) / len(scores):.4f}")


if __name__ == "__main__":
    train({"alpha": 0.0001, "eta0": 0.01})
