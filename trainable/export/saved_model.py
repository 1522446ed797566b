"""The confirmed model as a folder that needs none of this project to be used.

model/config.json           hyperparameters, classes, shape, normalisation, scores, digests of the files
model/weights.safetensors   the weights, named as in `trainable.model.build`
model/model.pt2             torch.export program: raw samples (N, *shape) in, class probabilities (N, K) out; of a model
                            that torch.export refuses there is none, and config.json says why ("unexported")

program = torch.export.load("model/model.pt2").module()
program(torch.from_numpy(images))   # uint8 (N, C, H, W); any N

`trainable.export.serving` makes the built-in networks again from the first two alone.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save as serialise
from torch import Tensor, nn

from rungwise.packages.versions import package_version
from rungwise.trainable.config import Config, parse_config
from rungwise.trainable.data.dataset import Dataset, Split
from rungwise.trainable.data.tensors import Tensors
from rungwise.trainable.export.serving import Classifier
from rungwise.trainable.export.silence import silence
from rungwise.trainable.export.test_evaluation import File, load
from rungwise.trainable.faults import ordinary
from rungwise.trainable.storage import take_place
from rungwise.trainable.training.state import State, separate

FORMAT = 1
CONFIG, WEIGHTS, PROGRAM, EXAMPLES = "config.json", "weights.safetensors", "model.pt2", "examples.safetensors"
_TOLERANCE = 1e-6  # of a probability, between the program read back and the model in memory
_COMPARED, _KEPT = 64, 4  # samples


@ordinary()
def export(
    file: File,
    config: Mapping[str, Any],
    data: Dataset,
    folder: str | Path,
    about: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write the model of a final state to `folder`, whole or not at all; returns what config.json holds.

    `about` (JSON) is kept in config.json as it is: the trial, its arm, its scores. The program computes in float32 on
    the CPU, also after bf16 training. It is read back and compared with the model before the folder gets its name; one
    that cannot be made, or differs, is left out. Raises CheckpointError for a file that is not what its digest says.
    """
    folder = Path(folder)
    checked = parse_config(config)
    model = classifier(file, checked, data)
    temporary = folder.with_name(f".{folder.name}.tmp")  # one driver a run: the rest of a killed one is overwritten
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        (temporary / WEIGHTS).write_bytes(saved_weights(model.model))
        samples = _raw_samples(data)
        with torch.no_grad():
            probabilities = model(samples)
        unexported = _unexported(model, samples, temporary / PROGRAM)
        files = [WEIGHTS, EXAMPLES, *([] if unexported else [PROGRAM])]
        examples = {"samples": samples[:_KEPT], "probabilities": probabilities[:_KEPT]}
        (temporary / EXAMPLES).write_bytes(serialise({name: value.contiguous() for name, value in examples.items()}))
        description = {
            "format": FORMAT,
            "config": _portable(checked.model_dump(mode="json")),
            "classes": list(data.classes),
            "shape": list(data.shape),
            "dtype": str(samples.numpy().dtype),
            "mean": list(data.mean),
            "std": list(data.std),
            "target": data.target,
            "offset": data.offset,
            "highest": data.highest,
            "table": None if data.encoder is None else data.encoder.to_json(),
            "data": {"name": Path(data.name).name, "digest": data.digest},
            "about": dict(about or {}),
            "versions": {name: package_version(name) for name in ("rungwise", "torch")},
            "unexported": unexported,
            "sha256": {name: _digest(temporary / name) for name in files},
        }
        (temporary / CONFIG).write_text(json.dumps(description, indent=1) + "\n")
        take_place(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return description


def classifier(file: File, config: Config, data: Dataset) -> Classifier:
    """The model of a final state with its normalisation, on the CPU, in eval mode. Raises CheckpointError."""
    few = Split(data.train.x[:1], data.train.y[:1])
    tensors = Tensors.of(replace(data, train=few, validation=few, test=None), "cpu")
    return Classifier(load(file, config, tensors), tensors.mean, tensors.std, tensors.target, data.offset).eval()


def saved_weights(model: nn.Module) -> bytes:
    """A model's parameters and buffers as safetensors, which refuses tensors that share memory: copies do not."""
    return serialise(separate(model.state_dict()))


def _raw_samples(data: Dataset) -> Tensor:
    """Raw validation samples, at least two: torch.export makes a constant of a batch of one."""
    x = data.validation.x[:_COMPARED]
    x = x if len(x) > 1 else np.concatenate([x, x])
    return torch.tensor(x if data.offset is None else x.astype(np.float64) + data.offset)


def _portable(config: dict[str, Any]) -> dict[str, Any]:
    """The config without the folder of a model's file, which is private."""
    return config | {"model": Path(config["model"]).name}


def unexportable(config: Config, data: Dataset) -> str | None:
    """Why torch.export refuses the untrained model, one line; None when it does not, or the model cannot be built."""
    few = Split(data.train.x[:1], data.train.y[:1])
    tensors = Tensors.of(replace(data, train=few, validation=few, test=None), "cpu")
    try:
        with ordinary(), silence():
            network = State.fresh(config, tensors).model.eval()
    except Exception:  # its trials will say so
        return None
    model = Classifier(network, tensors.mean, tensors.std, tensors.target, data.offset).eval()
    with tempfile.TemporaryDirectory() as temporary:
        return _unexported(model, _raw_samples(data), Path(temporary) / PROGRAM)


def _unexported(model: Classifier, samples: Tensor, path: Path) -> str | None:
    """Write the program to `path`. Returns None, or in one line why there is none."""
    try:
        with ordinary(), silence():
            _write_program(model, samples, path)
    except Exception as error:  # whatever torch.export makes of a user's model
        path.unlink(missing_ok=True)
        text = (str(error).strip().splitlines() or [""])[0]
        return f"{type(error).__name__}: {text}" if text else type(error).__name__
    return None


@torch.no_grad()
def _write_program(model: Classifier, samples: Tensor, path: Path) -> None:
    """Export, read back and compare."""
    batch = torch.export.Dim("batch")
    scale = 1.0 if model.target is None else abs(model.target[0]) + model.target[1]
    program = torch.export.export(model, (samples,), dynamic_shapes={"x": {0: batch}}, strict=False)
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)  # paths of this machine
    torch.export.save(program, path)
    again = torch.export.load(path).module()
    for count in (len(samples), 1):
        difference = (again(samples[:count]) - model(samples[:count])).abs().max().item() / scale
        if not difference <= _TOLERANCE:
            raise RuntimeError(
                f"the exported program must agree with the model to {_TOLERANCE}, but differs by {difference} "
                f"on {count} samples"
            )


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
