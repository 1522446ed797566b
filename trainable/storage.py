"""A folder on a disk, or under a URI such as s3://bucket/runs: what checkpoints and mirrors need of either.

Files are whole or absent: on a disk they are written under another name, fsynced and renamed; an object storage shows
an object when its upload is complete. Whatever cannot be done raises OSError.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rungwise.errors import RungwiseError


class CheckpointError(RungwiseError, ValueError):
    """A state that cannot be kept, or a checkpoint that cannot be trusted or does not belong to this trial."""


class MisfitError(CheckpointError):
    """A whole checkpoint of another network than the one that is built now."""


def is_uri(where: str | Path) -> bool:
    """Whether `where` is a URI rather than a path."""
    return "://" in str(where)


def below(where: str | Path, *names: str) -> str:
    """The place `where`/names, a path or a URI; a URI's query, which says how to reach it, stays at its end."""
    head, mark, query = str(where).partition("?") if is_uri(where) else (str(where), "", "")
    return "/".join([head.rstrip("/"), *names]) + mark + query


def absolute(where: str | Path) -> str:
    """The same place, whatever the working directory."""
    return str(where).rstrip("/") if is_uri(where) else str(Path(where).expanduser().absolute())


def read(file: str | Path) -> bytes:
    """The content of one file at a path or URI."""
    if not is_uri(file):
        return Path(file).read_bytes()
    head, mark, query = str(file).partition("?")
    folder, _, name = head.rpartition("/")
    return Folder(folder + mark + query).read(name)


class Folder:
    """A folder; made when something is written into it."""

    def __init__(self, where: str | Path) -> None:
        """Raises OSError for a URI that nobody can serve."""
        self.where = absolute(where)
        self._remote: Any = None  # a pyarrow file system, and the path on it
        if is_uri(where):
            from pyarrow import fs

            try:
                self._remote, self._path = fs.FileSystem.from_uri(self.where)
            except ValueError as error:
                raise OSError(f"{self.where}: {error}") from error
        else:
            self._path = self.where

    def names(self) -> list[str]:
        """Files in the folder, sorted; [] when it is not there."""
        if self._remote is None:
            folder = Path(self._path)
            return sorted(file.name for file in folder.iterdir() if file.is_file()) if folder.is_dir() else []
        from pyarrow import fs

        found = self._remote.get_file_info(fs.FileSelector(self._path, allow_not_found=True))
        return sorted(info.base_name for info in found if info.type == fs.FileType.File)

    def folders(self) -> list[str]:
        """Folders in the folder, sorted; [] when it is not there."""
        if self._remote is None:
            folder = Path(self._path)
            return sorted(one.name for one in folder.iterdir() if one.is_dir()) if folder.is_dir() else []
        from pyarrow import fs

        found = self._remote.get_file_info(fs.FileSelector(self._path, allow_not_found=True))
        return sorted(info.base_name for info in found if info.type == fs.FileType.Directory)

    def read(self, name: str) -> bytes:
        if self._remote is None:
            return Path(self._path, name).read_bytes()
        with self._remote.open_input_stream(self.at(name)) as stream:
            return bytes(stream.read())

    def write(self, name: str, content: bytes) -> None:
        """Replace the file `name`, whole or not at all."""
        if self._remote is None:
            path = Path(self._path, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, content)
            return
        with self._remote.open_output_stream(self.at(name)) as stream:
            stream.write(content)

    def delete(self, name: str) -> None:
        """Also when it is not there."""
        if self._remote is None:
            Path(self._path, name).unlink(missing_ok=True)
            return
        try:
            self._remote.delete_file(self.at(name))
        except FileNotFoundError:
            return

    def remove(self) -> None:
        """The folder and all in it, as far as that is possible."""
        if self._remote is None:
            shutil.rmtree(self._path, ignore_errors=True)
            return
        try:
            self._remote.delete_dir(self._path)
        except OSError:
            return

    def at(self, name: str) -> str:
        """Where `name` lies, for the file system."""
        return f"{self._path}/{name}"


def write_whole(path: Path, content: bytes) -> None:
    """Write to `path` under another name, fsync, rename, fsync the folder."""
    temporary = path.with_name(f"{path.name}.{socket.gethostname()}-{os.getpid()}.tmp")
    try:
        with _named(path), temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync(path.parent)  # the rename too must survive a power cut


def install(content: Mapping[str, bytes], folder: Path) -> None:
    """Make a folder of these files, whole or not at all, in place of the one that may be there."""
    temporary = folder.with_name(f".{folder.name}.tmp")  # one driver a run: what a killed one left is overwritten
    _clear(temporary)
    temporary.mkdir(parents=True)
    try:
        for name, data in content.items():
            with _named(folder / name):
                (temporary / name).write_bytes(data)
        take_place(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def take_place(temporary: Path, folder: Path) -> None:
    """Rename `temporary` to `folder`. A folder cannot be renamed over another, so an old one steps aside first."""
    for path in (*temporary.iterdir(), temporary):
        _sync(path)
    old = folder.with_name(f".{folder.name}.old")
    _clear(old)
    if folder.exists():
        os.rename(folder, old)
    os.rename(temporary, folder)
    _sync(folder.parent)
    _clear(old)


def _clear(path: Path) -> None:
    """Nothing is at `path` any more. Of a link, the link goes: what it leads to is another folder's."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """A write that fails, as on a full disk, does not say of which file."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
