"""The files of a program: which its command names, what they hold, and where they lie on a machine of a cluster."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

BROUGHT = "program-files"  # below the working directory of a process on a cluster; no name of a Python package
LARGEST = 2**20  # bytes of a file that is a program's code or settings; a larger one is data
_CODE = {".py", ".sh", ".bash", ".jl", ".r", ".pl", ".js", ".rb", ".lua"}  # what else it names it may have written


def digests(words: Sequence[str], folder: str) -> dict[str, str]:
    """{word: SHA-256} of the program's own files: code that its command names."""
    found = {}
    for index, word in enumerate(words):
        is_code = Path(word).suffix.lower() in _CODE or (index == 0 and os.sep in word)
        if is_code and (file := _file(word, folder)) is not None:
            found[word] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found


def plain_words(words: Sequence[str], folder: str) -> list[str]:
    """A command as every machine and every checkout has it: without this Python's path, and paths below its working
    directory from there."""
    return [
        "python" if word == sys.executable else os.path.relpath(word, folder) if _is_below(word, folder) else word
        for word in words
    ]


def brought(words: Sequence[str], folder: str) -> dict[str, Path]:
    """{path below the folder `BROUGHT`: file or folder} of the files that a command names, and of the modules beside
    them and in its working directory: those that lie in the working directory. Others must be on every machine."""
    root = Path(folder).resolve()
    files = [file.resolve() for word in words if (file := _file(word, folder)) is not None]
    for place in dict.fromkeys([root, *(file.parent for file in files)]):
        files += [*sorted(place.glob("*.py")), *(path.parent for path in sorted(place.glob("*/__init__.py")))]
    return {
        file.relative_to(root).as_posix(): file for file in dict.fromkeys(files) if file.resolve().is_relative_to(root)
    }


def folder_here(words: Sequence[str], folder: str, expected: Mapping[str, str]) -> str:
    """The working directory of a command on this machine: `folder` itself, or, where it lacks the files that the driver
    has, or holds others, what the driver has brought."""
    copy = Path.cwd() / BROUGHT
    is_same = Path(folder).is_dir() and digests(words, folder) == expected
    return str(copy) if copy.is_dir() and not is_same else folder


def words_here(words: Sequence[str], folder: str, here: str) -> list[str]:
    """A command with the paths below its working directory as they are on this machine."""
    if here == folder:
        return list(words)
    return [str(Path(here, Path(word).relative_to(folder))) if _is_below(word, folder) else word for word in words]


def _is_below(word: str, folder: str) -> bool:
    return Path(word).is_absolute() and Path(word) != Path(folder) and Path(word).is_relative_to(folder)


def _file(word: str, folder: str) -> Path | None:
    try:
        file = Path(folder, word)
        return file if file.is_file() and file.stat().st_size <= LARGEST else None
    except (OSError, ValueError):  # too long for a name, or no text of one
        return None
