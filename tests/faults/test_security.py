"""No room of the project reads what could be code."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator

from support.sweeping import ROOT

PICKLES = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
# The functions that read one pickle each, which no file holds: a probe of --plan gets the user's functions through a
# pipe of the process that has started it, and a process makes its own copy of the user's data.
READ_ONE = {"trainable/worker/timing.py: main", "trainable/own/training.py: as_sent"}


def test_no_room_reads_a_pickle() -> None:
    """`torch.load`, `pickle` and their kin run what a file says; runs hold SQLite, Parquet, JSON and safetensors."""
    files = [path for room in ("sweeps", "trainable", "results", "rungwise") for path in (ROOT / room).rglob("*.py")]
    assert len(files) > 30
    found = Counter(f"{path.relative_to(ROOT)}: {name}" for path in files for name in reading(path.read_text()))
    assert found == Counter(READ_ONE)


def test_the_walk_sees_a_pickle_under_any_name_and_knows_its_function() -> None:
    text = """
import pickle as other
from dill import loads
def one():
    return [np.load(file), np.load(file, allow_pickle=False), torch.load(file, weights_only=True)]
class Two:
    def two(self):
        return pickle.loads(self.content), torch.load(self.content)
    def three(self):
        def inner():
            read = cloudpickle.load
        return pickle.dumps(self)
"""
    assert list(reading(text)) == ["", "", "one", "two", "two", "inner"]


def reading(text: str) -> Iterator[str]:
    """The function around each place of a module that reads a pickle, or makes such a place hard to see; "" outside."""

    def walk(node: ast.AST, function: str) -> Iterator[str]:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            function = node.name
        if reads_pickle(node):
            yield function
        for child in ast.iter_child_nodes(node):
            yield from walk(child, function)

    yield from walk(ast.parse(text), "")


def reads_pickle(node: ast.AST) -> bool:
    if isinstance(node, ast.Import):
        return any(each.name.split(".")[0] in PICKLES and each.asname for each in node.names)
    if isinstance(node, ast.ImportFrom):
        return (node.module or "").split(".")[0] in PICKLES
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in PICKLES:
        return node.attr in ("load", "loads", "Unpickler", "open")
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
        said = {keyword.arg: keyword.value for keyword in node.keywords}
        match node.func.value.id, node.func.attr:
            case "torch", "load":
                return "weights_only" not in said
            case "np", "load":
                allowed = said.get("allow_pickle")
                return not isinstance(allowed, ast.Constant) or bool(allowed.value)
    return False
