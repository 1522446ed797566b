"""A folder on a disk, or under a URI such as s3://bucket/runs: what checkpoints and mirrors need of either.

Files are complete or absent: on a disk they are written under another name, fsynced and renamed; an object storage
shows an object when its upload is complete. Whatever cannot be done raises OSError. Used by every package, so none of
them is imported here.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from rungwise.files import copy_content, write_whole


def is_uri(where: str | Path) -> bool:
    """Whether `where` is a URI rather than a path."""
    return "://" in str(where)


def below(where: str | Path, *names: str) -> str:
    """The place `where`/names, a path or a URI; a URI's query, which says how to reach it, stays at its end."""
    head, mark, query = str(where).partition("?") if is_uri(where) else (str(where), "", "")
    return "/".join([head.rstrip("/"), *names]) + mark + query


def beside(where: str | Path, name: str) -> str:
    """The place `name` in the folder that holds `where`, a path or a URI."""
    return below(folder_of(where), name)


def folder_of(where: str | Path) -> str:
    """The folder that holds `where`, a path or a URI."""
    head, mark, query = str(where).partition("?") if is_uri(where) else (str(where), "", "")
    return head.rstrip("/").rpartition("/")[0] + mark + query


def absolute(where: str | Path) -> str:
    """The same place, whatever the working directory."""
    return str(where).rstrip("/") if is_uri(where) else str(Path(where).expanduser().absolute())


def read(file: str | Path) -> bytes:
    """The content of one file at a path or URI."""
    if not is_uri(file):
        return Path(file).read_bytes()
    return Folder(folder_of(file)).read(_name(file))


def download(file: str | Path, to: Path) -> None:
    """Copy one file at a path or URI to a file of this machine, without holding it in memory."""
    if not is_uri(file):
        shutil.copyfile(file, to)
        return
    Folder(folder_of(file)).copy(_name(file), to)


def _name(file: str | Path) -> str:
    return str(file).partition("?")[0].rpartition("/")[2]


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
            if self._remote.type_name == "local":  # file:///...
                self._remote = None
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

    def files(self) -> list[str]:
        """Files in the folder and in all folders below it, as a/b/c; [] when it is not there."""
        if self._remote is None:
            root = Path(self._path)
            return sorted(file.relative_to(root).as_posix() for file in root.rglob("*") if file.is_file())
        from pyarrow import fs

        found = self._remote.get_file_info(fs.FileSelector(self._path, recursive=True, allow_not_found=True))
        return sorted(info.path.removeprefix(f"{self._path}/") for info in found if info.type == fs.FileType.File)

    def read(self, name: str, most: int | None = None) -> bytes:
        """The content of the file `name`, its first `most` bytes when given."""
        if self._remote is None:
            with Path(self._path, name).open("rb") as file:
                return file.read(most)
        with self._remote.open_input_stream(self.at(name)) as stream:
            return bytes(stream.read(most))

    def copy(self, name: str, to: Path) -> None:
        """Copy the file `name` to a file of this machine."""
        if self._remote is None:
            shutil.copyfile(Path(self._path, name), to)
            return
        with self._remote.open_input_stream(self.at(name)) as stream, to.open("wb") as target:
            shutil.copyfileobj(stream, target, 2**20)

    def write(self, name: str, content: bytes | Path) -> None:
        """Replace the file `name`, whole or not at all, by this content or a copy of a file."""
        if self._remote is None:
            path = Path(self._path, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, content)
            return
        with self._remote.open_output_stream(self.at(name)) as stream:
            copy_content(content, stream)

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
