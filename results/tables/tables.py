"""The record as two Arrow tables: `trials`, one row a trial, and `reports`, one row a report.

A column's name fixes its type for good: metrics are float64, a hyperparameter's type is its field's, and a new
hyperparameter is a new column. NaN and infinities are values that were reported; NULL says that nothing was.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import pyarrow as pa

from rungwise.results.io.garbage import rare_collections
from rungwise.results.record.database import FORMAT
from rungwise.results.record.reader import Reader
from rungwise.results.tables.reports import reports_table
from rungwise.results.tables.trials import trials_table


@dataclass(frozen=True, slots=True)
class Tables:
    """Both tables of one consistent state of the record."""

    trials: pa.Table
    reports: pa.Table


def tables(reader: Reader) -> Tables:
    """Read the record once and turn it into `trials` and `reports`, ordered by their keys."""
    with reader.snapshot(), rare_collections():
        definition = reader.definition()
        described = reader.meta("hyperparameters") or {}
        trials = reader.trials()
        reports = reports_table(reader, definition)
        superseded = reader.superseded()
        version = _version(reader)
    about = {
        b"rungwise.run": definition.name.encode(),
        b"rungwise.format": str(FORMAT).encode(),
        b"rungwise.definition": json.dumps(definition.to_json()).encode(),
        b"rungwise.version": version.encode(),
    }
    with reader.refusing():
        summary = trials_table(trials, reports, definition, described, superseded)
    return Tables(summary.replace_schema_metadata(about), reports.replace_schema_metadata(about))


def _version(reader: Reader) -> str:
    """The version of Rungwise that drove the run last."""
    sessions = reader.sessions()
    versions = sessions[-1].info.get("versions") if sessions else None
    return str(versions.get("rungwise", "unknown")) if isinstance(versions, dict) else "unknown"
