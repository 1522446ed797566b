"""The rooms of the house: which may import which, and what a user's `--help` may load."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = {"rungwise.engine": "sweeps/engine", "rungwise.trainable": "trainable", "rungwise.results": "results"}
MOST_FILES = 12  # of a folder
HEAVY = {"ray", "torch", "optuna", "mlflow"}
# The flags of DESIGN.md that exist; the others join when they are built.
FLAGS = (
    "trials", "epochs", "name", "out", "seed", "sampler", "scheduler", "concurrency", "cpus-per-trial",
    "gpus-per-trial", "address", "tracking-uri", "data-root", "time-budget", "one", "quiet",
)  # fmt: skip


def imports(file: Path) -> Iterator[str]:
    """Every module that a file imports, also inside functions and under TYPE_CHECKING: 'ray.tune', 'ray.tune.Tuner'."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative imports hide which room is meant"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in (
            "import_module",
            "__import__",
        ):
            assert isinstance(node.args[0], ast.Constant), f"{file}:{node.lineno} imports what nobody can know"
            yield str(node.args[0].value)


def within(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


def test_no_folder_holds_more_python_files_than_one_can_look_over() -> None:
    folders = [folder for room in [*ROOMS.values(), "rungwise"] for folder in {file.parent for file in files(room)}]
    assert [str(folder) for folder in folders if len(list(folder.glob("*.py"))) > MOST_FILES] == []


def files(folder: str) -> list[Path]:
    """All modules of a room, those of its sub-folders too; of `sweeps` the scripts alone, as the engine is a room."""
    found = sorted((ROOT / folder).glob("*.py") if folder == "sweeps" else (ROOT / folder).rglob("*.py"))
    assert found, f"{folder} holds no module: the walk would prove nothing"
    return found


def offenders(folder: str, forbidden: tuple[str, ...], allowed: tuple[str, ...] = ()) -> list[str]:
    return [
        f"{file.relative_to(ROOT)} imports {module}"
        for file in files(folder)
        for module in imports(file)
        if within(module, *forbidden) and not within(module, *allowed)
    ]


def test_the_walk_sees_imports_in_functions_and_by_name(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text(
        "import a.b\nfrom c import d as e\n"
        "def f():\n    from ray import tune\n    import_module('mlflow')\n    importlib.import_module('torch')\n"
    )
    assert sorted(imports(file)) == ["a.b", "c.d", "mlflow", "ray.tune", "torch"]


def edges(file: Path, *, types: bool = False) -> Iterator[str]:
    """Modules of ours that a file needs when it runs, those imported in functions too; `types`: also for its types."""
    tree = ast.parse(file.read_text())
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) and not types
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield f"{node.module}.{alias.name}" if module_file(f"{node.module}.{alias.name}") else f"{node.module}"


def module_file(module: str) -> Path | None:
    room = next((room for room in ROOMS if within(module, room)), None)
    if room is None:
        return None
    path = ROOT.joinpath(ROOMS[room], *module.split(".")[2:])
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.exists()), None)


def circles(graph: dict[Path, set[Path]]) -> list[set[Path]]:
    """Files that need each other: the strongly connected components of more than one."""
    reached: dict[Path, set[Path]] = {}
    for start in graph:
        seen, waiting = set(), [start]
        while waiting:
            for following in graph[waiting.pop()] - seen:
                seen.add(following)
                waiting.append(following)
        reached[start] = seen
    found = [{other for other in reached[file] if file in reached[other]} | {file} for file in graph]
    return [one for n, one in enumerate(found) if len(one) > 1 and one not in found[:n]]


def test_no_files_need_each_other_in_a_circle(tmp_path: Path) -> None:
    a, b, c = (tmp_path / name for name in "abc")
    assert circles({a: {b}, b: {c}, c: set()}) == []
    assert circles({a: {b}, b: {c}, c: {b}}) == [{b, c}]
    graph = {}
    for file in (file for room in ROOMS.values() for file in files(room)):
        needed = {module_file(module) for module in edges(file) if within(module, *ROOMS)}
        graph[file] = {path for path in needed if path is not None and path.name != "__init__.py"} - {file}
    assert [sorted(str(file.relative_to(ROOT)) for file in circle) for circle in circles(graph)] == []


def test_a_sweep_script_needs_the_engine_and_optuna_only() -> None:
    for file in files("sweeps"):
        if file.name == "sweeps.py":  # an old name of the package
            continue
        for module in imports(file):
            ours = within(module, "rungwise")
            # Names of `rungwise` itself: 'rungwise.Sweep', never 'rungwise.engine.driver.main'.
            assert not ours or re.fullmatch(r"rungwise\.\w+", module), f"{file.name} imports {module}"
            top = module.partition(".")[0]
            assert ours or top in {"optuna", *sys.stdlib_module_names}, f"{file.name} imports {module}"


def test_the_engine_imports_no_sweep_script() -> None:
    assert offenders("sweeps/engine", ("sweeps",)) == []


def test_trainable_imports_no_other_room_and_neither_optuna_nor_mlflow() -> None:
    assert offenders("trainable", ("rungwise.engine", "rungwise.results", "optuna", "mlflow")) == []


def test_results_import_neither_ray_nor_another_room_but_for_what_must_be_the_same_in_training() -> None:
    """A picture or a table is read, and a network computed, by the code that did it in training: a second one would
    differ. Why a trial failed is in the record as the trial said it."""
    shared = (
        "rungwise.trainable.data.image_folder",
        "rungwise.trainable.data.raw",
        "rungwise.trainable.data.table",
        "rungwise.trainable.export.serving",
        "rungwise.trainable.messages",
    )
    assert offenders("results", ("ray", "rungwise.engine", "rungwise.trainable"), allowed=shared) == []
    assert {line.split()[0] for line in offenders("results", shared)} == {
        "results/model/images.py",
        "results/model/model.py",
        "results/model/tables.py",
        "results/exporters/optuna_study.py",
        "results/progress/summary.py",
        "results/record/definition.py",
        "results/record/reader.py",
        "results/record/types.py",
        "results/record/validation.py",
        "results/run.py",
        "results/record/writer.py",
        "results/report/snapshot.py",
        "results/tables/schema.py",
    }


def test_what_every_room_uses_imports_no_room() -> None:
    shared = [ROOT / "rungwise" / f"{name}.py" for name in ("distributions", "errors", "files", "storage", "text")]
    assert [module for file in shared for module in imports(file) if within(module, *ROOMS)] == []
    assert "rungwise.files.write_whole" in imports(ROOT / "rungwise/storage.py")  # these files are looked at


def test_results_import_torch_in_the_model_only() -> None:
    assert [line for line in offenders("results", ("torch",)) if not line.startswith("results/model/model.py")] == []


def test_one_module_asks_what_is_installed() -> None:
    """It knows what to do about a project that is not."""
    rooms = ("sweeps", *ROOMS.values())
    assert [line for room in rooms for line in offenders(room, ("importlib.metadata", "pkg_resources"))] == []
    assert "importlib.metadata" in imports(ROOT / "rungwise/packages/versions.py")


def test_only_the_engine_knows_tunes_driver_side() -> None:
    in_trainable = set(offenders("trainable", ("ray",)))
    assert in_trainable == {"trainable/worker/worker.py imports ray", "trainable/worker/worker.py imports ray.tune"}
    tree = ast.parse((ROOT / "trainable/worker/worker.py").read_text())
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "tune"
    }
    assert used == {"Trainable"}


def test_importing_the_engine_loads_nothing_heavy() -> None:
    code = "import sys, rungwise.engine; print(*sorted(m for m in sys.modules if '.' not in m))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "tyro" in loaded  # it is the engine that was imported
    assert loaded & HEAVY == set()


def test_every_module_can_be_imported_without_what_only_linux_has() -> None:
    """fcntl, resource, signals, os.fork: hidden from our modules (support/windows.py), as is /proc."""
    done = subprocess.run(
        [sys.executable, ROOT / "tests/support/windows.py"], capture_output=True, text=True, check=True
    )
    imported, *answers = map(json.loads, done.stdout.splitlines())
    assert imported["problems"] == {}
    assert {"rungwise.engine.driver", "rungwise.trainable.worker.worker", "rungwise.results.run"} <= {
        *imported["modules"]
    }
    assert answers == [
        {
            "asked of /proc": {
                "cores": True, "limit of memory": None, "memory": True, "processor": ["model"],
                "processes live": [True, False, False],
            },
            "lock": "files of a run are locked by flock, which this system does not have; on Windows, use WSL2",
        }
    ]  # fmt: skip


@pytest.fixture(scope="module")
def help_page() -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-X", "importtime", str(ROOT / "sweeps/mnist_l2.py"), "--help-all"]
    return subprocess.run(command, capture_output=True, text=True, check=True)


def test_help_loads_nothing_heavy(help_page: subprocess.CompletedProcess[str]) -> None:
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in help_page.stderr.splitlines()}
    assert "tyro" in loaded
    assert loaded & HEAVY == set()


def test_help_all_names_every_flag_with_its_meaning(help_page: subprocess.CompletedProcess[str]) -> None:
    from rungwise.engine.experiment.flags import Options

    flags = {*FLAGS}
    for field in dataclasses.fields(Options):  # what is on by default has a flag that turns it off
        flags.add(("no-" if field.default is True else "") + field.name.replace("_", "-"))
    options = re.split(r"\n│ (?:-h, )?--(?=[a-z])", help_page.stdout)[1:]
    entries = {entry.split()[0]: " ".join(entry.replace("│", " ").split()) for entry in options}
    assert flags - entries.keys() == set()
    for flag in flags:
        assert len(entries[flag].split("(default: ")[0].split()) > 4, f"--{flag} has no meaning in --help"
        assert not re.search(r"None}|default: (None|True|False)", entries[flag]), f"--{flag} says None in --help"


def test_each_option_is_in_one_group_of_the_help() -> None:
    from rungwise.engine.experiment.command_line import COMMON, GROUPS
    from rungwise.engine.experiment.flags import Options

    grouped = [name for names in GROUPS.values() for name in names.split()]
    assert sorted(grouped) == sorted(field.name for field in dataclasses.fields(Options))
    (common,) = COMMON.values()
    assert set(common.split()) <= set(grouped)
    assert len(common.split()) == 10


def test_help_asks_the_scripts_question(help_page: subprocess.CompletedProcess[str]) -> None:
    assert "Does L2 help" in " ".join(help_page.stdout.split())
