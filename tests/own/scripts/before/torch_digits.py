"""Handwritten digits with a network of one hidden layer, in plain PyTorch."""

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn


def train(config, resume=None):
    x, y = (torch.as_tensor(array) for array in load_digits(return_X_y=True))
    x, x_val, y, y_val = train_test_split(x.float() / 16, y, test_size=0.3, random_state=0)
    model = nn.Sequential(nn.Linear(64, config["width"]), nn.ReLU(), nn.Linear(config["width"], 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"])
    first = 0
    if resume:
        first, weights, moments = torch.load(resume).values()
        model.load_state_dict(weights)
        optimizer.load_state_dict(moments)
    for epoch in range(first, 9):
        for batch in torch.randperm(len(x)).split(64):
            loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            val_loss = nn.functional.cross_entropy(model(x_val), y_val)
        print(f"epoch {epoch + 1}: val_loss {val_loss:.4f}")
        state = {"epoch": epoch + 1, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save(state, "last.pt")


if __name__ == "__main__":
    train({"lr": 0.003, "width": 32})
