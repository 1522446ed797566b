"""The confirmed model in MLflow: a logged model of the sweep's parent run, and a version of the registered model.

The model is MLflow's own `pytorch` flavour around the exported program, byte for byte: it loads with
`mlflow.pyfunc.load_model` and `mlflow.pytorch.load_model` where nothing of this project is installed. It holds no
pickle, yet torch evaluates expressions of the program while it loads it: as with any MLflow model, a process that loads
it trusts the store. The version is called `champion` when its validation score beats the present champion's.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rungwise.results.exporters.legal_names import LegalNames, legal_name
from rungwise.results.io.formatting import exact
from rungwise.results.model.model_folder import CONFIG, EXAMPLES, FOLDER, OWN, described

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.entities.model_registry import ModelVersion

CHAMPION = "champion"
MLFLOW_VARIABLE = "MLFLOW_TRACKING_URI"
MODEL_VERSIONS = "mlflow.modelVersions"  # as MLflow calls it: a server sets it when it makes a version
_DIGEST = "rungwise.digest"
_SCORE, _METRIC, _MODE, _DATA = "rungwise.validation", "rungwise.metric", "rungwise.mode", "rungwise.data"


@dataclass(frozen=True, slots=True)
class Confirmed:
    """A run's model, and what it is judged by."""

    folder: Path  # of the model
    name: str  # of the registered model: the sweep's
    metric: str  # the validation objective
    mode: str  # max or min
    validation: float  # mean over the confirmation's seeds
    identity: str  # of the run
    at: int  # milliseconds since the epoch: when the sweep ended

    @property
    def digest(self) -> str:
        """Of config.json, which holds the digests of all other files."""
        return hashlib.sha256((self.folder / CONFIG).read_bytes()).hexdigest()


def log(client: MlflowClient, experiment: str, run_id: str, confirmed: Confirmed) -> None:
    """Log and register the model; what is there already is left as it is. Raises ModelError, or what MLflow raises."""
    for name in ("mlflow.pyfunc", "mlflow.store.model_registry.abstract_store"):  # they tell each step
        logging.getLogger(name).setLevel(logging.WARNING)
    os.environ.setdefault("MLFLOW_UV_AUTO_DETECT", "false")  # or it packs the project of the current folder
    about = described(confirmed.folder)
    model = _logged(client, experiment, run_id, confirmed, about)
    _measure(client, run_id, model, confirmed, about)
    version = _registered(client, run_id, model, confirmed, about)
    _link(client, model, version)
    _crown(client, version, confirmed)


def _logged(
    client: MlflowClient, experiment: str, run_id: str, confirmed: Confirmed, about: Mapping[str, Any]
) -> LoggedModel:
    """The logged model, complete; one that a killed exporter left half-way is completed."""
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    models = client.search_logged_models([experiment], f"tags.`{_DIGEST}` = '{confirmed.digest}'")
    own = [model for model in models if model.source_run_id == run_id]
    model = next((model for model in own if model.status is LoggedModelStatus.READY), own[0] if own else None)
    if model is None:
        tags = {_DIGEST: confirmed.digest, "rungwise.run": confirmed.identity}
        params = {legal_name(key): exact(value) for key, value in about["config"].items()}
        model = client.create_logged_model(experiment, FOLDER, run_id, tags, params)
    if model.status is not LoggedModelStatus.READY:
        with tempfile.TemporaryDirectory() as temporary:
            if about.get("kind") == OWN:
                _save_own(Path(temporary) / FOLDER, model, run_id, confirmed)
            else:
                _save(Path(temporary) / FOLDER, model, run_id, confirmed, about)
            client.log_model_artifacts(model.model_id, str(Path(temporary) / FOLDER))
        model = client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    outputs = client.get_run(run_id).outputs
    if model.model_id not in [output.model_id for output in (outputs.model_outputs if outputs else [])]:
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    return model


def _save(path: Path, model: LoggedModel, run_id: str, confirmed: Confirmed, about: Mapping[str, Any]) -> None:
    import numpy as np
    from safetensors.numpy import load_file

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow warns of its own type hints
        from mlflow import __version__
        from mlflow.models import Model, ModelSignature
        from mlflow.pyfunc import save_model
        from mlflow.types import Schema, TensorSpec

    shape, classes = about["shape"], len(about["classes"]) or 1
    torch = str(about["versions"]["torch"]).partition("+")[0]
    described = Model(model_id=model.model_id, run_id=run_id, artifact_path=model.artifact_location)
    described.add_flavor("pytorch", model_data=f"data/{confirmed.folder.name}", pytorch_version=torch, code=None)
    save_model(
        str(path),
        loader_module="mlflow.pytorch",
        data_path=str(confirmed.folder),
        mlflow_model=described,
        model_config={"device": "cpu"},  # where the program was exported
        signature=ModelSignature(
            inputs=Schema([TensorSpec(np.dtype(about["dtype"]), (-1, *shape))]),
            outputs=Schema([TensorSpec(np.dtype("float32"), (-1, classes))]),
        ),
        input_example=load_file(confirmed.folder / EXAMPLES)["samples"],
        pip_requirements=[f"mlflow=={__version__}", f"torch=={torch}", f"numpy=={np.__version__}"],
    )


def _save_own(path: Path, model: LoggedModel, run_id: str, confirmed: Confirmed) -> None:
    """What the user's own training saved: files without a flavour, since nobody else knows how to load them."""
    from mlflow.models import Model

    shutil.copytree(confirmed.folder, path / "data" / confirmed.folder.name)
    Model(model_id=model.model_id, run_id=run_id, artifact_path=model.artifact_location).save(str(path / "MLmodel"))


def _measure(
    client: MlflowClient, run_id: str, model: LoggedModel, confirmed: Confirmed, about: Mapping[str, Any]
) -> None:
    """The model's own scores; MLflow's primary key refuses what it has."""
    from mlflow.entities import Metric

    data = about.get("data") or {"name": "", "digest": ""}
    names = LegalNames()
    scores = {f"model_test_{names.of(name)}": value for name, value in about["about"].get("test", {}).items()}
    metrics = [
        Metric(name, value, confirmed.at, 0, model.model_id, data["name"] or None, str(data["digest"])[:36] or None)
        for name, value in scores.items()
    ]
    if metrics:
        client.log_batch(run_id, metrics, synchronous=True)


def _registered(
    client: MlflowClient, run_id: str, model: LoggedModel, confirmed: Confirmed, about: Mapping[str, Any]
) -> ModelVersion:
    """The version of the registered model; both made when absent."""
    from mlflow.exceptions import MlflowException

    name = re.sub(r"[/:]|^[. ]+", "_", confirmed.name)
    try:
        client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        client.create_registered_model(name, tags={"rungwise.sweep": confirmed.name})
    # Not by its name, too: MLflow's filters have no way to write a quote within quotes.
    for version in client.search_model_versions(f"tags.`{_DIGEST}` = '{confirmed.digest}'"):
        if version.run_id == run_id and version.name == name:
            return version
    tags = {
        _DIGEST: confirmed.digest,
        _SCORE: repr(confirmed.validation),
        _METRIC: confirmed.metric,
        _MODE: confirmed.mode,
        _DATA: str((about.get("data") or {}).get("digest", "")),
        "rungwise.run": confirmed.identity,
        "rungwise.arm": str(about["about"].get("arm", "")),
    }
    # MLflow 3.17's SQL registry keeps no model_id: only a source "models:/<id>" leads from the version to the model.
    with _as_default(client.tracking_uri):
        return client.create_model_version(
            name, f"models:/{model.model_id}", run_id, tags, model_id=model.model_id, await_creation_for=30
        )


@contextmanager
def _as_default(uri: str) -> Iterator[None]:
    """Make `uri` the process's own tracking URI: MLflow 3.17's SQL registry looks a model up there, and not in the
    store of the client that asks."""
    import mlflow

    variable = os.environ.get(MLFLOW_VARIABLE)
    is_set: bool = mlflow.is_tracking_uri_set()  # type: ignore[no-untyped-call]
    before = mlflow.get_tracking_uri() if is_set else None
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(None if before == variable else before)  # type: ignore[arg-type]
        if variable is not None:
            os.environ[MLFLOW_VARIABLE] = variable


def _link(client: MlflowClient, model: LoggedModel, version: ModelVersion) -> None:
    """Tell the logged model of its version, as `mlflow.register_model` does: MLflow's page of the model asks it."""
    versions = json.loads(client.get_logged_model(model.model_id).tags.get(MODEL_VERSIONS, "[]"))
    entry = {"name": version.name, "version": str(version.version)}
    if not any(
        str(other.get("version")) == entry["version"] and other.get("name") == entry["name"] for other in versions
    ):
        client.set_logged_model_tags(model.model_id, {MODEL_VERSIONS: json.dumps([*versions, entry])})


def _crown(client: MlflowClient, version: ModelVersion, confirmed: Confirmed) -> None:
    """Call the version `champion` when there is none, or when it beats the present one on the same validation data."""
    from mlflow.exceptions import MlflowException

    try:
        present = client.get_model_version_by_alias(version.name, CHAMPION)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
    else:
        if str(present.version) == str(version.version) or not _beats(version.tags, present.tags, confirmed):
            return
    client.set_registered_model_alias(version.name, CHAMPION, str(version.version))


def _beats(tags: Mapping[str, str], present: Mapping[str, str], confirmed: Confirmed) -> bool:
    """Scores of other metrics or other data do not compare: the present champion then stays."""
    if any(tags.get(key) != present.get(key) for key in (_METRIC, _MODE, _DATA)):
        return False
    score, champion_score = float(tags[_SCORE]), float(present.get(_SCORE, "nan"))
    return score < champion_score if confirmed.mode == "min" else score > champion_score
