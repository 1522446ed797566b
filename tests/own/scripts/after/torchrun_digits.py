"""Handwritten digits on two processes: an argparse script under torchrun."""

import argparse
import os
from pathlib import Path

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from rungwise import FloatDistribution, IntDistribution, Sweep, main, report


def train(args):
    dist.init_process_group("gloo")
    rank, size = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(args.seed)
    x, y = (torch.as_tensor(array) for array in load_digits(return_X_y=True))
    x, x_val, y, y_val = train_test_split(x.float() / 16, y, test_size=0.3, random_state=0)
    network = nn.Sequential(nn.Linear(64, args.width), nn.ReLU(), nn.Linear(args.width, 10))
    model = nn.parallel.DistributedDataParallel(network)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr)
    first = 0
    if args.resume:
        first, weights, moments = torch.load(max(Path(args.resume).glob("*.pt"))).values()
        model.load_state_dict(weights)
        optimizer.load_state_dict(moments)
    for epoch in range(first, args.epochs):
        for batch in torch.randperm(len(x)).split(64):
            part = batch[rank::size]
            loss = nn.functional.cross_entropy(model(x[part]), y[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if rank == 0:
            with torch.no_grad():
                val_loss = nn.functional.cross_entropy(network(x_val), y_val)
            file = Path(args.save, f"{epoch + 1:03}.pt")
            state = {"epoch": epoch + 1, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save(state, file)
            report(val_loss=val_loss, checkpoint=file)
    dist.destroy_process_group()


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lr", type=float, default=0.003)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--save", default=os.environ.get("RUNGWISE_SAVE", "."))
    parser.add_argument("--resume", default=os.environ.get("RUNGWISE_CHECKPOINT"))
    return parser.parse_args()


if __name__ == "__main__" and "LOCAL_RANK" in os.environ:  # under torchrun
    train(parse())
elif __name__ == "__main__":
    space = {"lr": FloatDistribution(1e-4, 1e-1, log=True), "width": IntDistribution(8, 64)}
    program = ["python", "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", __file__]
    main(Sweep("torchrun_digits", space, program=program, metric="val_loss", trials=6, epochs=9))
