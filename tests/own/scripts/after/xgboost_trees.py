"""Breast cancer with boosted trees of XGBoost."""

import xgboost
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

from rungwise import FloatDistribution, IntDistribution, Sweep, main
from rungwise.integrations.xgboost import ReportCallback


def train(config, trial):
    x, x_val, y, y_val = train_test_split(*load_breast_cancer(return_X_y=True), test_size=0.3, random_state=0)
    data, validation = xgboost.DMatrix(x, y), xgboost.DMatrix(x_val, y_val)
    params = {"objective": "binary:logistic", "nthread": 1, "subsample": 0.8, "seed": trial.seed, **config}
    more = {"callbacks": [ReportCallback(trial)], "xgb_model": ReportCallback.checkpoint(trial), "verbose_eval": False}
    xgboost.train(params, data, trial.epochs - trial.reported, evals=[(validation, "val")], **more)


if __name__ == "__main__":
    space = {"eta": FloatDistribution(0.01, 0.5, log=True), "max_depth": IntDistribution(1, 6)}
    main(Sweep("xgboost_trees", space, train=train, metric="val_logloss", mode="min", trials=6, epochs=27))
