"""Secrets do not leave as text, whatever characters a password has and whoever repeats it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from rungwise import CategoricalDistribution, Sweep
from rungwise.engine.experiment import space
from rungwise.engine.experiment.command_line import parse
from rungwise.engine.experiment.experiment import resolve
from rungwise.engine.experiment.resume_check import differences
from rungwise.results.exporters.optuna_study import studies
from rungwise.results.io import redaction
from rungwise.results.io.redaction import Verbatim, redacted, redacted_uri, redacted_values, remember, without_secrets
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import FILE, State
from rungwise.results.record.writer import Record
from rungwise.trainable.data.dataset import load
from rungwise.trainable.messages import Constraint, Failure, FailureKind
from rungwise.trainable.training.builtin import describe_data

PASSWORDS = ["sesame/open", "sesame?open", "sesame#open", "sesame'open", "sesame open", 'sesame"open', "se@same:open"]


@pytest.fixture(autouse=True)
def nothing_given() -> Iterator[None]:
    before = dict(redaction._given)
    redaction._given.clear()
    yield
    redaction._given.clear()
    redaction._given.update(before)


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize("written", [str, quote])
def test_no_part_of_a_password_is_shown_whatever_characters_it_has(password: str, written: type[str]) -> None:
    uri = f"postgresql://ada:{written(password)}@host:5432/db?sslmode=require"
    assert redacted_uri(uri) == "postgresql://***@host:5432/db?sslmode=require"
    said = f"could not connect to {uri} as ada: {password!r} ({password}, {quote(password, safe='')}) is refused"
    assert "same" not in without_secrets(said, uri)
    remember(uri)
    for text in (said, f"--tracking-uri={uri}", repr([uri])):
        assert "same" not in redacted(text)
        assert "open" not in redacted(text)


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("s3://AKIAIOSFODNN7EXAMPLE:wJalr/XUtn+FEMI@bucket/runs", "s3://***@bucket/runs"),
        ("s3://bucket/runs?region=eu&access_key=AKIA&secret_key=wJa#lr", "s3://bucket/runs?region=eu&access_key=***&secret_key=***"),
        ("s3://bucket/r?session_token=abc&scheme=http", "s3://bucket/r?session_token=***&scheme=http"),
        ("https://h/x?X-Amz-Credential=AKIA%2F1&X-Amz-Signature=ab&y=1", "https://h/x?X-Amz-Credential=***&X-Amz-Signature=***&y=1"),
        ("postgresql://h/db?sslpassword=x&user=ada", "postgresql://h/db?sslpassword=***&user=ada"),
        ("mssql+pyodbc:///?odbc_connect=DRIVER%3DX%3BUID%3Dada%3BPWD%3Dsesame%3BSERVER%3Dh", "mssql+pyodbc:///?odbc_connect=DRIVER%3DX%3BUID%3Dada%3BPWD%3D***%3BSERVER%3Dh"),
        ("sqlite:////data/50%25 C%23/mlflow.db", "sqlite:////data/50%25 C%23/mlflow.db"),
        ("s3://bucket/runs?region=eu&endpoint_override=localhost:9000", "s3://bucket/runs?region=eu&endpoint_override=localhost:9000"),
    ],
)  # fmt: skip
def test_keys_and_tokens_of_any_uri_are_starred_out_and_nothing_else(uri: str, shown: str) -> None:
    assert redacted_uri(uri) == shown
    assert redacted(uri) == shown


def test_a_key_that_was_given_is_starred_out_wherever_it_turns_up() -> None:
    remember("s3://AKIAIOSFODNN7EXAMPLE:wJalrXUtnFEMI@bucket/runs?session_token=FwoGZXIv", None, "a/plain/path")
    said = "SignatureDoesNotMatch: AKIAIOSFODNN7EXAMPLE, wJalrXUtnFEMI, FwoGZXIv of bucket/runs"
    assert redacted(said) == "SignatureDoesNotMatch: ***, ***, *** of bucket/runs"


def test_values_are_redacted_in_depth_and_numbers_stay() -> None:
    value = {"a": ["s3://k:s@b/x", 1.5, None, True], "b": {"c": ("plain",)}}
    assert redacted_values(value) == {"a": ["s3://***@b/x", 1.5, None, True], "b": {"c": ["plain"]}}


def test_no_secret_is_anywhere_in_a_record_that_was_given_it_in_every_free_text(tmp_path: Path) -> None:
    uri = "postgresql://ada:ses/ame open@host/db"
    remember(uri)
    said = f"OperationalError: {uri} refused 'ses/ame open'"
    with Record(tmp_path) as record:
        record.set_meta("definition", {"data": {"source": uri}, "name": "r"})
        record.start_session({"command": ["python", "x.py", f"--tracking-uri={uri}"]})
        record.add_trial(1, arm="all", phase="search", config={}, params={}, distributions={})
        record.start_attempt(1)
        record.event("machines", words=said)
        record.end_trial(
            1,
            State.FAILED,
            failure=Failure(FailureKind.EXCEPTION, said, Constraint(said, 1, 2), f"Traceback\n  {said}\n"),
        )
    content = (tmp_path / FILE).read_bytes() + b"".join(p.read_bytes() for p in tmp_path.glob(f"{FILE}-wal"))
    assert b"refused" in content
    assert b"ses/ame" not in content
    assert b"ame open" not in content


def test_a_password_that_is_a_hyperparameters_value_changes_no_trial_and_no_definition(tmp_path: Path) -> None:
    sweep = Sweep(
        name="relu",
        space={"optimizer": CategoricalDistribution(["adam", "adamw"])},
        fixed={"schedule": "cosine"},
        arms={"adam": {}, "tanh": {"activation": "tanh"}},
        data="digits",
    )
    asked = resolve(sweep, parse(sweep, ["--name", "relu"])).with_data(describe_data(load("digits")))
    config = {"optimizer": "adam", "schedule": "cosine", "init": "hf://relu@main"}
    for password in ("adam", "cosine", "relu", "tanh"):
        remember(f"postgresql://mlflow:{password}@host/db")
    with Record(tmp_path) as record:
        record.set_meta("definition", asked.to_json())
        record.add_trial(
            1, arm="adam", phase="search", config=config, params={"optimizer": "adam"},
            distributions=space.to_json(sweep.space),
        )  # fmt: skip
        record.event("sampler", 1, arm="adam", kept=Verbatim(point="adam"), shared=Verbatim(grid=["adam", "adamw"]))
    redaction._given.clear()  # the next driver is given another password, or none
    with Reader(tmp_path) as reader:
        (trial,) = reader.trials()
        assert trial.config == config
        assert differences(reader.definition(), asked) == []
        study = studies(reader)[("adam", 1)]
    assert study.trials[0].params == {"optimizer": "adam"}
    assert study._storage.get_study_system_attrs(study._study_id)["grid"] == ["adam", "adamw"]


def test_the_command_line_is_kept_without_secrets() -> None:
    program = (
        "import sys; sys.argv = ['sweep.py', '--mirror', 's3://AKIA:ses/ame@b/r?region=eu', "
        "'--tracking-uri=mysql+pymysql://ada:ses ame@h/d?x=1', '--trials', '3']\n"
        "from rungwise.engine.experiment.environment import command_line; print(*command_line(), sep='|')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == (
        "python|sweep.py|--mirror|s3://***@b/r?region=eu|--tracking-uri=mysql+pymysql://***@h/d?x=1|--trials|3"
    )
