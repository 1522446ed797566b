"""The state of a trial between two reports, and its checkpoint file.

No random state is saved: every random number of a trial follows from (seed, purpose, position). So model, optimiser
and step are enough, and a restored trial continues bit for bit.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse
from safetensors.torch import save as serialise
from torch import Tensor, nn

from rungwise.files import write_whole
from rungwise.trainable import faults
from rungwise.trainable.config import Config
from rungwise.trainable.data.tensors import Tensors
from rungwise.trainable.model import build, derived, penalty, weights
from rungwise.trainable.report import SCORES, Report
from rungwise.trainable.storage import CheckpointError, MisfitError, checkpoint_header, read_checkpoint
from rungwise.trainable.training.loop_functions import LoopFunctionError
from rungwise.trainable.training.new_weights import require_new_weights
from rungwise.trainable.training.optimizers import build_optimizer

FORMAT = 1


def generator(device: torch.device | str, seed: int, *purpose: object) -> torch.Generator:
    """A generator whose stream depends on the seed, its purpose and the position in the trial, and on nothing else."""
    text = "/".join(str(part) for part in (seed, *purpose))
    key = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    return torch.Generator(device).manual_seed(key)


@dataclass
class State:
    """A trial between two reports: `step` reports have been sent, and `history` holds them as dicts.

    The history travels in the checkpoint because the driver may die after a checkpoint and before it has recorded
    the reports that led to it.
    """

    config: Config
    model: nn.Module
    optimizer: torch.optim.Optimizer
    step: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def fresh(cls, config: Config, tensors: Tensors) -> State:
        """The state before the first step, on the tensors' device. The initial bits are the same on every device."""
        weights = generator("cpu", config.seed, "weights")
        model = build(config, tensors.shape, tensors.classes, weights, tensors.input_dtype, tensors.embedded)
        require_new_weights(model, config.model)
        model.to(tensors.device)
        optimizer = (tensors.functions.optimizer or build_optimizer)(model, config)
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise LoopFunctionError(
                f"optimizer must return a torch.optim.Optimizer, but returned {type(optimizer).__name__}"
            )
        return cls(config, model, optimizer)

    def report(self, train_loss: float, lr: float, scored: dict[str, float], seconds: float) -> Report:
        """Make the next report and add it to the history, once its steps are taken.

        Args:
            train_loss: mean data loss of the interval.
            lr: the last learning rate.
            scored: of the validation split: loss, and accuracy or mse, mae, r2; and metrics of the user's.
            seconds: wall time of the interval, validation included.
        """
        self.step += 1
        report = Report(
            step=self.step,
            epoch=self.step / self.config.reports_per_epoch,
            train_loss=train_loss,
            penalty=self._penalty(),
            val_loss=scored["loss"],
            val_accuracy=scored.get("accuracy"),
            lr=lr,
            seconds=seconds,
            val_mse=scored.get("mse"),
            val_mae=scored.get("mae"),
            val_r2=scored.get("r2"),
            others={f"val_{name}": value for name, value in scored.items() if name not in SCORES},
        )
        self.history.append(report.asdict())
        return report

    @torch.no_grad()
    def _penalty(self) -> float:
        return penalty([*weights(self.model), *derived(self.model)], self.config).item()

    def content(self) -> bytes:
        """The content of the checkpoint file. Raises CheckpointError for a module whose state is more than tensors."""
        try:
            with faults.ordinary():
                return serialise(separate(self._tensors()), {"rungwise": self._header()})
        except Exception as error:
            raise CheckpointError(
                f"a model's state must be tensors, but cannot be kept: {faults.reason(error)}"
            ) from error

    def save(self, path: str | Path) -> str:
        """Write to `path`, whole or not at all. Returns the content's SHA-256 in hex."""
        content = self.content()
        write_whole(Path(path), content)
        return hashlib.sha256(content).hexdigest()

    @classmethod
    def load(cls, path: str | Path, config: Config, tensors: Tensors, sha256: str | None = None) -> State:
        """Read a checkpoint that `save` wrote.

        Args:
            path: or URI.
            config: of the trial; the checkpoint must have the same.
            tensors: on the device to continue on.
            sha256: of the file. Give it: safetensors itself notices a torn file, but no flipped bit.

        Raises:
            CheckpointError: if the file is torn, altered or of another trial.
            MisfitError: if it holds another network than the config's model.
        """
        content = read_checkpoint(path, sha256)
        try:
            flat = parse(content)
            header = checkpoint_header(content)
        except (SafetensorError, ValueError, KeyError) as error:
            raise CheckpointError(f"checkpoint {str(path)!r} must be whole, but is not: {error}") from error
        state = cls.fresh(config, tensors)
        state._restore(str(path), header, flat)
        return state

    def _header(self) -> str:
        # One key only: safetensors writes several in no fixed order, and the digest must not change.
        config = self.config.model_dump(mode="json")
        return json.dumps({"format": FORMAT, "config": config, "step": self.step, "history": self.history})

    def _tensors(self) -> dict[str, Tensor]:
        flat = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        for index, entries in self.optimizer.state_dict()["state"].items():
            flat |= {f"optimizer.{index}.{key}": value for key, value in entries.items() if value is not None}
        return flat

    def _restore(self, path: str, header: dict[str, Any], flat: dict[str, Tensor]) -> None:
        own = self.config.model_dump(mode="json")
        if header.get("format") != FORMAT:
            raise CheckpointError(f"checkpoint {path!r} must have format {FORMAT}, but has {header.get('format')}")
        saved = header.get("config", {})
        fields = type(self.config).model_fields
        for name in own.keys() - saved.keys():  # written before there was such a hyperparameter
            if getattr(self.config, name) == fields[name].get_default(call_default_factory=True):
                saved[name] = own[name]
        differs = [f"{k} is {saved.get(k)!r} there, {v!r} here" for k, v in own.items() if saved.get(k) != v]
        if str(saved.get("model")).rpartition(":")[1:] == (":", own["model"].rpartition(":")[2]):
            differs = [line for line in differs if not line.startswith("model is ")]  # its file may have been moved
        if differs:
            raise CheckpointError(f"checkpoint {path!r} must have this trial's config, but {'; '.join(differs)}")
        state: dict[int, dict[str, Tensor]] = {}
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        for name, value in flat.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".", 2)
                # Out of the file's buffer, aligned; and laid out as its parameter, because fused optimisers walk both
                # through memory in one order, whatever their strides.
                state.setdefault(int(index), {})[key] = _laid_out_as(parameters, int(index), value)
        model = {name.removeprefix("model."): value for name, value in flat.items() if name.startswith("model.")}
        try:
            _load(self.model, model)
            groups = self.optimizer.state_dict()["param_groups"]
            self.optimizer.load_state_dict({"state": state, "param_groups": groups})
            self.step = int(header["step"])
            self.history = list(header["history"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise MisfitError(f"checkpoint {path!r} must fit the model, but does not: {error}") from error


def _laid_out_as(parameters: list[Tensor], index: int, value: Tensor) -> Tensor:
    """A copy of `value` with the strides of the parameter that it belongs to."""
    if index < len(parameters) and parameters[index].shape == value.shape:
        return torch.empty_like(parameters[index], dtype=value.dtype, requires_grad=False).copy_(value)
    return value.clone()


def separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU, contiguous, no two of which share memory: safetensors refuses tied weights."""
    separated: dict[str, Tensor] = {}
    places: set[int] = set()
    for name, value in tensors.items():
        copy = value.detach().cpu().contiguous()
        place = copy.untyped_storage().data_ptr()
        separated[name] = copy.clone() if place in places else copy
        places.add(place)
    return separated


def _load(model: nn.Module, saved: dict[str, Tensor]) -> None:
    """Load a saved state. An expanded buffer, whose numbers share memory, is written at one place of each."""
    own = model.state_dict()
    expanded = {name for name, value in own.items() if name in saved and _once(value).shape != value.shape}
    for name in expanded:
        if own[name].shape != saved[name].shape:
            raise ValueError(f"{name} is {tuple(own[name].shape)} here and {tuple(saved[name].shape)} there")
        _once(own[name]).copy_(_once(saved[name], like=own[name]))
    rest = {name: value for name, value in saved.items() if name not in expanded}
    missing, unexpected = model.load_state_dict(rest, strict=False)
    if wrong := sorted({*missing} - expanded) + unexpected:
        raise ValueError(f"{', '.join(wrong)} must be both there and here")


def _once(value: Tensor, like: Tensor | None = None) -> Tensor:
    """A view of one of those numbers that share memory along a dimension of `like`."""
    for dimension, stride in enumerate((value if like is None else like).stride()):
        if stride == 0 and value.shape[dimension] > 1:
            value = value.narrow(dimension, 0, 1)
    return value
