"""Numbers of trials. They follow from what a trial is, not from when it was dispatched: the same command numbers the
same trials alike, however many run at once.

Numbers are reserved in blocks. The first block has those of all that the first command asks for: search trials in turn,
one of each search of each arm, and after them the confirmations, the untuned control and the refits. A later command
that asks for more reserves another block. A number may stay unused: a search whose trials all failed has nothing to
confirm.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from rungwise.engine.experiment.experiment import Experiment
from rungwise.results.record.types import Trial
from rungwise.trainable.messages import StudyKey

META = "numbering"  # key of the blocks in the record's meta


@dataclass(frozen=True)
class Block:
    """The numbers that one command reserved."""

    first: int
    searches: int  # of each arm
    trials: int  # of each search
    configs: int  # of each search that are confirmed
    seeds: int  # on which each of them is confirmed
    begun: Sequence[int]  # of each search, in the order of `Experiment.studies`: trials with numbers of earlier blocks
    untuned: int = 0  # seeds of each search of the untuned control
    refits: int = 0  # seeds that the best configuration of all is trained on besides

    @cached_property
    def places(self) -> Mapping[tuple[int, int], int]:
        """{(index of the study, place in it from 0): number} of the search trials."""
        width = len(self.begun)
        dealt = [(study, place) for place in range(self.trials) for study in range(width) if place >= self.begun[study]]
        return {place: self.first + index for index, place in enumerate(dealt)}

    @property
    def confirmations(self) -> int:
        """The first number of a confirmation."""
        return self.first + sum(max(0, self.trials - begun) for begun in self.begun)

    @property
    def first_untuned(self) -> int:
        """The first number of a training with the defaults."""
        return self.confirmations + len(self.begun) * self.configs * self.seeds

    @property
    def first_refit(self) -> int:
        """The first number of a refit."""
        return self.first_untuned + self.searches * self.untuned

    @property
    def end(self) -> int:
        """The number after the last one."""
        return self.first_refit + self.refits


class Numbering:
    """The numbers of one run's trials."""

    def __init__(self, experiment: Experiment, kept: Iterable[Mapping[str, Any]], trials: Iterable[Trial]) -> None:
        """
        Args:
            experiment: what is asked for now.
            kept: the blocks that the record holds.
            trials: all trials that it holds.
        """
        trials = list(trials)
        self._index = {study: index for index, study in enumerate(experiment.studies)}
        self._blocks = [Block(**block) for block in kept]
        self._used = {trial.trial for trial in trials}
        self._free = max([block.end for block in self._blocks] + [number + 1 for number in self._used], default=1)
        if not self._blocks or self._exceeds(experiment):
            self._blocks.append(self._next_block(experiment, trials))
            self._free = max(self._free, self._blocks[-1].end)

    @property
    def kept(self) -> list[dict[str, Any]]:
        """The blocks as the record keeps them."""
        return [asdict(block) for block in self._blocks]

    def search_trial(self, study: StudyKey, place: int) -> int:
        """The number of a search's trial at `place`, from 0."""
        at = self._index[study], place
        return self._take(next((block.places[at] for block in self._blocks if at in block.places), None))

    def confirmation(self, study: StudyKey, rank: int, seed: int) -> int:
        """The number of a confirmation: of the search's configuration of `rank`, on its fresh seed `seed`, both from 0.

        Where that number is taken, because another configuration or network was confirmed there, the next free one.
        """
        block = self._blocks[-1]
        index = (seed * len(block.begun) + self._index[study]) * block.configs + rank
        reserved = rank < block.configs and seed < block.seeds
        return self._take(block.confirmations + index if reserved else None)

    def refit(self, seed: int) -> int:
        """The number of the best configuration's training on its further seed `seed`, from 0; of another configuration
        than before the next free one."""
        block = self._blocks[-1]
        return self._take(block.first_refit + seed if seed < block.refits else None)

    def untuned(self, search: int, seed: int) -> int:
        """The number of the training with the defaults on the seed `seed`, from 0, that belongs to `search`, from 1."""
        block = self._blocks[-1]
        reserved = search <= block.searches and seed < block.untuned
        return self._take(block.first_untuned + seed * block.searches + search - 1 if reserved else None)

    def next_free(self) -> int:
        """A number that is not reserved."""
        return self._take(None)

    def _take(self, number: int | None) -> int:
        if number is None or number in self._used:
            number, self._free = self._free, self._free + 1
        self._used.add(number)
        return number

    def _exceeds(self, experiment: Experiment) -> bool:
        """Whether more is asked for than is reserved."""
        asked = _asked(experiment)
        return any(now > max(getattr(block, name) for block in self._blocks) for name, now in asked.items())

    def _next_block(self, experiment: Experiment, trials: Sequence[Trial]) -> Block:
        begun = []
        for index, study in enumerate(experiment.studies):
            held = sum(trial.phase == "search" and trial.study == study for trial in trials)
            reserved = [block.trials for block in self._blocks if index < len(block.begun)]
            begun.append(max([held, *reserved]))
        return Block(first=self._free, begun=begun, **_asked(experiment))


def _asked(experiment: Experiment) -> dict[str, int]:
    """How much a block reserves, by the names of its fields."""
    return {
        "searches": experiment.searches,
        "trials": experiment.most_trials,
        "configs": min(experiment.confirm_configs, experiment.trials),
        "seeds": experiment.confirm_seeds,
        "untuned": experiment.untuned_seeds,
        "refits": experiment.refit_seeds,
    }
