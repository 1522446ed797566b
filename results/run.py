"""An opened run: `rungwise.open_run("runs/mnist_l2")` has `.trials`, `.answer`, `.study("L2")` and `.model()`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from rungwise.results.analysis.answer import Answer, answer
from rungwise.results.record.reader import Reader
from rungwise.results.record.sessions import sweep_state
from rungwise.results.tables.tables import tables

if TYPE_CHECKING:
    import optuna

    from rungwise.results.model.model import Model


class Run:
    """One sweep's folder. Everything is read from its record when it is asked for, also while the sweep runs."""

    def __init__(self, folder: str | Path) -> None:
        """Raises RecordError when there is no whole record in `folder`."""
        self.folder = Path(folder)
        with Reader(self.folder) as reader:
            self._definition = reader.definition()

    def __repr__(self) -> str:
        return f"rungwise.open_run({str(self.folder)!r})"

    @property
    def name(self) -> str:
        return self._definition.name

    @property
    def question(self) -> str:
        return self._definition.question

    @property
    def arms(self) -> list[str]:
        return list(self._definition.arms)

    @property
    def definition(self) -> Mapping[str, Any]:
        """What was asked, as the record keeps it: metric, budget, space, data."""
        return self._definition.to_json()

    @property
    def state(self) -> str:
        """PLANNED, RUNNING, FINISHED, INTERRUPTED or FAILED."""
        with Reader(self.folder) as reader:
            return str(sweep_state(reader))

    @property
    def trials(self) -> pa.Table:
        """One row a trial; `.to_pandas()` makes a DataFrame. Units are in the columns' metadata."""
        with Reader(self.folder) as reader:
            return tables(reader).trials

    @property
    def reports(self) -> pa.Table:
        """One row a report: the learning curves."""
        with Reader(self.folder) as reader:
            return tables(reader).reports

    @property
    def answer(self) -> Answer:
        """What the sweep found, with intervals; `.sentence` says it."""
        with Reader(self.folder) as reader:
            return answer(reader)

    def study(self, arm: str | None = None) -> optuna.Study:
        """The Optuna study of an arm, in memory, for `optuna.visualization`. With one arm it needs no name.

        Raises ValueError for an arm that is not there.
        """
        from rungwise.results.exporters.optuna_study import studies

        with Reader(self.folder) as reader:
            arm_studies = studies(reader)
        if arm is None and len(arm_studies) == 1:
            return next(iter(arm_studies.values()))
        if arm not in arm_studies:
            raise ValueError(f"an arm must be one of {', '.join(map(repr, arm_studies))}, but got {arm!r}")
        return arm_studies[arm]

    def sql(self, query: str, *, external: bool = False) -> pa.Table:
        """A DuckDB query over the tables `trials` and `reports`; with `external` over files, too. Raises SqlError."""
        from rungwise.results.tables.sql import run

        return run(query, {"trials": self.trials, "reports": self.reports}, external=external)

    def model(self, trust: bool = False) -> Model:
        """The confirmed model: `.predict(images)`. Raises ModelError when there is none or it is damaged.

        `trust`: a model function of your own is used through its torch.export program, which can run any code of
        whoever made the run; say whether you trust them.
        """
        from rungwise.results.model.model import load

        return load(self.folder, trust)


def open(folder: str | Path) -> Run:  # noqa: A001 (results.open)
    """Look at the run in `folder`. Raises RecordError when there is no whole record in it."""
    return Run(folder)
