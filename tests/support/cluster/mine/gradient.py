"""The gradient of a mean squared error."""


def gradient(weights, x, y):
    return 2 * x.T @ (x @ weights - y) / len(y)
