"""A tracking URI is checked without MLflow and shown without its password."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rungwise.results.exporters.tracking_uri import sqlite_path, sqlite_uri, tracking_uri, valid_uri
from rungwise.results.io.redaction import redacted, without_secrets


@pytest.mark.parametrize(
    "uri",
    ["http://localhost:5000", "https://user:word@mlflow.example.org/path", "sqlite:///x.db", "databricks"],
)
def test_these_are_valid(uri: str) -> None:
    assert valid_uri(uri) is None


@pytest.mark.parametrize(
    ("uri", "rule"),
    [
        ("./mlruns", "no runs in plain folders"),
        ("file:///tmp/mlruns", "no runs in plain folders"),
        ("", "no runs in plain folders"),
        ("ftp://host/x", "must be sqlite:///FILE"),
        ("sqlite://x.db", "three slashes"),
        ("sqlite:///", "three slashes"),
        ("sqlite:////no/such/folder/x.db", "folder .* must exist"),
        ("http://", "must name a host"),
        ("http://[::1", "well formed"),
        ("mysql+pymysql://u:sesame@h/db", "driver pymysql"),
    ],
)
def test_these_are_refused_with_the_rule(uri: str, rule: str) -> None:
    problem = valid_uri(uri)
    assert problem is not None
    assert len(problem.splitlines()) == 1
    assert __import__("re").search(rule, problem)
    assert "sesame" not in problem


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("sqlite:////data/mlflow.db", "sqlite:////data/mlflow.db"),
        ("http://localhost:5000/x", "http://localhost:5000/x"),
        ("https://ada:sesame@host:5000/x", "https://***@host:5000/x"),
        ("https://sesame@host", "https://***@host"),
        ("postgresql://ada:p@ss:sesame@host/db", "postgresql://***@host/db"),
        ("postgresql://host/db?user=a&password=sesame&x=1", "postgresql://host/db?user=a&password=***&x=1"),
        ("cannot reach https://a:sesame@h/x or https://b:sesame@i", "cannot reach https://***@h/x or https://***@i"),
    ],
)
def test_secrets_are_starred_out(uri: str, shown: str) -> None:
    assert redacted(uri) == shown


def test_a_message_that_repeats_the_password_is_cleaned() -> None:
    uri = "postgresql://ada:open%20sesame@host/db"
    message = "password 'open sesame' (open%20sesame) refused for postgresql://ada:open%20sesame@host/db"
    assert "sesame" not in without_secrets(message, uri)


def test_the_uri_asked_for_comes_first_then_the_environment_then_the_file() -> None:
    run = Path("/data/runs/demo")
    environment = {"MLFLOW_TRACKING_URI": "http://m", "RUNGWISE_TRACKING_URI": "http://r"}
    assert tracking_uri(run, "http://a", environment) == "http://a"
    assert tracking_uri(run, None, environment) == "http://r"
    assert tracking_uri(run, None, {"MLFLOW_TRACKING_URI": "http://m"}) == "http://m"
    assert tracking_uri(run, None, {}) == "sqlite:////data/runs/mlflow.db"


@pytest.mark.parametrize(
    "module",
    [
        "record.writer", "tables.tables", "tables.parquet", "exporters.tracking_uri", "exporters.mlflow",
        "exporters.live", "exporters.optuna_study", "cli.main",
    ],
)  # fmt: skip
def test_importing_a_room_imports_none_of_the_slow_packages(module: str) -> None:
    program = (
        f"import sys, rungwise.results.{module}\n"
        "slow = {'mlflow', 'optuna', 'ray', 'torch', 'pandas', 'sklearn', 'sqlalchemy'} & sys.modules.keys()\n"
        "assert not slow, slow"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("name", ["m.db", "50% done%20/m.db", "what?/m.db", "C#/m.db", "größe/m.db", 'it\'s "q"/m.db'])
def test_a_files_uri_leads_to_that_file_for_us_and_for_sqlalchemy(tmp_path: Path, name: str) -> None:
    from sqlalchemy import make_url

    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    uri = sqlite_uri(path)
    assert sqlite_path(uri) == path
    assert make_url(uri).database == str(path)
    assert valid_uri(uri) is None


def test_a_question_mark_that_would_end_a_files_name_is_refused(tmp_path: Path) -> None:
    problem = valid_uri(f"sqlite:///{tmp_path}/what?/m.db")
    assert problem is not None
    assert "%3F" in problem
    assert valid_uri(f"sqlite:///{tmp_path}/m.db?timeout=5") is None
