"""Handwritten digits with a network of one hidden layer, in Lightning."""

import lightning
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split


class Digits(lightning.LightningModule):
    def __init__(self, lr, width):
        super().__init__()
        self.lr = lr
        self.model = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))

    def training_step(self, batch, index):
        x, y = batch
        return nn.functional.cross_entropy(self.model(x), y)

    def validation_step(self, batch, index):
        x, y = batch
        self.log("val_loss", nn.functional.cross_entropy(self.model(x), y))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=self.lr)


def train(config):
    x, y = (torch.as_tensor(array) for array in load_digits(return_X_y=True))
    parts = random_split(TensorDataset(x.float() / 16, y), [0.7, 0.3], torch.Generator().manual_seed(0))
    data, validation = DataLoader(parts[0], 64, shuffle=True), DataLoader(parts[1], 256)
    trainer = lightning.Trainer(
        max_epochs=9, enable_checkpointing=False,
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Digits(**config), data, validation)
    print(trainer.callback_metrics)


if __name__ == "__main__":
    train({"lr": 0.003, "width": 32})
