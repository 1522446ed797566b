"""Breast cancer with boosted trees of XGBoost."""

import xgboost
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split


def train(config):
    x, x_val, y, y_val = train_test_split(*load_breast_cancer(return_X_y=True), test_size=0.3, random_state=0)
    data, validation = xgboost.DMatrix(x, y), xgboost.DMatrix(x_val, y_val)
    params = {"objective": "binary:logistic", "nthread": 1, "subsample": 0.8, "seed": 0, **config}
    booster = xgboost.train(params, data, 27, evals=[(validation, "val")], verbose_eval=False)
    print(booster.eval(validation, "val"))


if __name__ == "__main__":
    train({"eta": 0.1, "max_depth": 3})
