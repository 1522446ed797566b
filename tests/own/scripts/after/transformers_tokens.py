"""Which half of a sequence has the larger sum? A tiny BERT with random weights, in Hugging Face's Trainer."""

import tempfile

import torch
from torch.utils.data import Dataset
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

from rungwise import CategoricalDistribution, FloatDistribution, Sweep, main
from rungwise.integrations.transformers import ReportCallback


class Sequences(Dataset):
    def __init__(self, length, seed):
        self.tokens = torch.randint(0, 16, (length, 8), generator=torch.Generator().manual_seed(seed))
        self.labels = (self.tokens[:, :4].sum(1) > self.tokens[:, 4:].sum(1)).long()

    def __len__(self):
        return len(self.tokens)

    def __getitem__(self, index):
        return {"input_ids": self.tokens[index], "labels": self.labels[index]}


def train(config, trial):
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, num_train_epochs=trial.epochs, seed=trial.seed,
            per_device_train_batch_size=64, learning_rate=config["lr"],
            eval_strategy="epoch", save_strategy="no", report_to=[], disable_tqdm=True, use_cpu=True,
        )  # fmt: skip
        small = {
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "max_position_embeddings": 8,
        }
        model = BertForSequenceClassification(BertConfig(vocab_size=16, hidden_size=config["width"], **small))
        splits = {"train_dataset": Sequences(256, 1), "eval_dataset": Sequences(128, 2)}
        trainer = Trainer(model, arguments, **splits, callbacks=[ReportCallback(trial)])
        trainer.train(resume_from_checkpoint=ReportCallback.checkpoint(trial))


if __name__ == "__main__":
    space = {"lr": FloatDistribution(1e-4, 1e-1, log=True), "width": CategoricalDistribution([8, 16, 32])}
    main(Sweep("transformers_tokens", space, train=train, metric="eval_loss", mode="min", trials=6, epochs=9))
