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
from rungwise.trainable.messages import StudyKey

if TYPE_CHECKING:
    import optuna

    from rungwise.results.inline_report import InlineReport
    from rungwise.results.model.model import Model


class Run:
    """The folder of one sweep. Each property reads the record anew, so it is up to date while the sweep runs.

    Args:
        folder: The run's folder, which holds sweep.sqlite.

    Raises:
        RecordError: The folder has no record, or a damaged one.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        with Reader(self.folder) as reader:
            self._definition = reader.definition()

    def __repr__(self) -> str:
        return f"rungwise.open_run({str(self.folder)!r})"

    @property
    def name(self) -> str:
        """Name of the run."""
        return self._definition.name

    @property
    def question(self) -> str:
        """The question of the sweep."""
        return self._definition.question

    @property
    def arms(self) -> list[str]:
        """Names of the arms; the first one is the control."""
        return list(self._definition.arms)

    @property
    def definition(self) -> Mapping[str, Any]:
        """The resolved experiment as JSON: metric, budget, space, data, flags."""
        return self._definition.to_json()

    @property
    def state(self) -> str:
        """PLANNED, RUNNING, FINISHED, INTERRUPTED or FAILED."""
        with Reader(self.folder) as reader:
            return str(sweep_state(reader))

    @property
    def trials(self) -> pa.Table:
        """One row per trial; `.to_pandas()` makes a DataFrame. Units are in the metadata of the columns."""
        with Reader(self.folder) as reader:
            return tables(reader).trials

    @property
    def reports(self) -> pa.Table:
        """One row per report: the learning curves."""
        with Reader(self.folder) as reader:
            return tables(reader).reports

    @property
    def answer(self) -> Answer:
        """The answer to the question, with intervals; `.sentence` is its text."""
        with Reader(self.folder) as reader:
            return answer(reader)

    def study(self, arm: str | None = None, search: int = 1) -> optuna.Study:
        """The Optuna study of one search of an arm, in memory, for `optuna.visualization`.

        Args:
            arm: Name of the arm; optional if there is only one.
            search: Which of the arm's independent searches, from 1.

        Raises:
            ValueError: The sweep has no such arm, or no such search.
        """
        from rungwise.results.exporters.optuna_study import studies

        with Reader(self.folder) as reader:
            all_studies = studies(reader)
        arms = dict.fromkeys(key.arm for key in all_studies)
        arm = next(iter(arms)) if arm is None and len(arms) == 1 else arm
        if arm not in arms:
            raise ValueError(f"an arm must be one of {', '.join(map(repr, arms))}, but got {arm!r}")
        if StudyKey(arm, search) not in all_studies:
            last = max(key.search for key in all_studies)
            raise ValueError(f"a search must be one of 1 to {last}, but got {search!r}")
        return all_studies[StudyKey(arm, search)]

    def sql(self, query: str, *, external: bool = False) -> pa.Table:
        """Run a DuckDB query over the tables `trials` and `reports`.

        Args:
            query: The SQL text.
            external: Whether the query may access other files.

        Raises:
            SqlError: DuckDB rejects the query.
        """
        from rungwise.results.tables.sql import run

        return run(query, {"trials": self.trials, "reports": self.reports}, external=external)

    def report(self, height: int = 800) -> InlineReport:
        """The report as it is now: answer, curves, importances and all trials, below a notebook's cell.

        Args:
            height: Of its frame, in pixels.

        Returns:
            What a notebook shows as the page, and a prompt as the answer's sentence.
        """
        from rungwise.results.inline_report import InlineReport

        return InlineReport(self.folder, height)

    def model(self, trust: bool = False) -> Model:
        """The confirmed model, with `.predict(samples)`.

        Args:
            trust: Whether a torch.export program may be loaded, which a model function of your own needs. Such a
                program can run arbitrary code: load only runs from people you trust.

        Raises:
            ModelError: There is no model, it is damaged, or it needs `trust`.
        """
        from rungwise.results.model.model import load

        return load(self.folder, trust)


def open(folder: str | Path) -> Run:  # noqa: A001 (results.open)
    """Open the run in `folder`, also while its sweep runs.

    Args:
        folder: The run's folder, which holds sweep.sqlite.

    Raises:
        RecordError: The folder has no record, or a damaged one.
    """
    return Run(folder)
