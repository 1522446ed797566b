"""Names from outside as paths: of a bucket's objects, of an archive, a record or an argument.

`Path(root) / name` is not below `root` when `name` is absolute or holds `..`, nor when a link on its way leads
elsewhere. Code that makes a path from a name chosen elsewhere calls `resolve_below`.
"""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path

from rungwise.errors import RungwiseError

LONGEST = 255  # bytes of a file's name, on every file system in use
_LONGEST_RUN = 200  # characters: temporary names are longer
_MLFLOW, _ARTIFACTS = (
    "mlflow.db",
    "mlartifacts",
)  # `results.exporters.tracking_uri` and `results.exporters.mlflow_database` make them


class UnsafeName(RungwiseError, ValueError):
    """A name that is no path below the folder; the message says the rule and shows the name, escaped and cut."""


def resolve_below(root: Path, name: str) -> Path:
    """`root / name`, which lies below `root` whatever `name` holds and whatever links are there.

    `name`: parts joined by "/", such as "model/config.json". Neither `root` nor the file has to exist. A link that
    stays below `root` is allowed. Raises UnsafeName for a name that is empty or absolute, has an empty part, "." or
    "..", a drive letter, a backslash, a control character or a part of more than 255 bytes, or leaves `root` by a link.
    """
    if problem := name_problem(name):
        raise UnsafeName(f"{problem}, but got {shown(name)}")
    path = root / name
    try:
        inside = path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle, before Python 3.13
        raise UnsafeName(f"a name must lead below {root}, but {shown(name)} leads nowhere ({error})") from None
    if not inside:
        raise UnsafeName(f"a name must lead below {root}, but {shown(name)} leaves it by a link")
    return path


def working_folder_problems() -> list[str]:
    """A line when the folder in which this process works has been deleted."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return ["the working directory no longer exists: change to another one (cd)"]
    return []


def name_problem(name: str) -> str | None:
    """The rule that `name` breaks, as far as the text alone tells: "a name must ..."; None when it breaks none."""
    if not name:
        return "a name must not be empty"
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        return "a name must be relative, without a drive letter"
    if "\\" in name or any(unicodedata.category(character) == "Cc" for character in name):
        return "a name must not contain a backslash or a control character"
    if any(part in ("", ".", "..") for part in name.split("/")):
        return "a name must have parts other than '', '.' and '..'"
    try:
        lengths = [len(os.fsencode(part)) for part in name.split("/")]
    except UnicodeEncodeError:
        return "a name must be text that a file system can write"
    return f"a part of a name must have at most {LONGEST} bytes" if max(lengths) > LONGEST else None


def run_name_problem(name: str) -> str | None:
    """The rule that `name` breaks as a run's; None when it breaks none. A run is one folder beside MLflow's files."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        return "a run's name must have letters, digits, '.', '_' and '-' only, and begin with a letter or digit"
    if len(name) > _LONGEST_RUN:
        return f"a run's name must have at most {_LONGEST_RUN} characters"
    if name.casefold().startswith(_MLFLOW) or name.casefold() == _ARTIFACTS:
        return f"a run's name must not be {_ARTIFACTS} nor begin with {_MLFLOW}: these are MLflow's, beside the runs"
    return None


def shown(name: str) -> str:
    """`name` in quotes for a message: on one line, in printable characters, at most 80 of them."""
    text = ascii(name) if not name.isprintable() else repr(name)
    return text if len(text) <= 80 else f"{text[:76]}...{text[0]}"
