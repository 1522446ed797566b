"""Where samples come from: a dataset that has a name, or a file or folder of the user's.

Every source ends as a `Raw`: samples and labels as the publisher ordered them. Splitting, statistics and the checks of
content belong to `dataset.py` and `samples.py`.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rungwise.text import printable, printable_name
from rungwise.trainable.data import memory
from rungwise.trainable.data.data_source import DataSource
from rungwise.trainable.data.image_folder import (
    PictureError,
    decode_images,
    decoded_size,
    describe_unread,
    find_splits,
    list_classes,
)
from rungwise.trainable.data.parquet_file import check_columns, is_all_numbers_or_images, read_parquet
from rungwise.trainable.data.published import NAMES, read_published
from rungwise.trainable.data.raw import DataError, Raw, require_exact, unreadable
from rungwise.trainable.data.table import table_data
from rungwise.trainable.data.table.columns import Columns
from rungwise.trainable.data.table.table_file import ARROW, TEXT, is_folder_of_tables, suffix_of

SUFFIXES = (*TEXT, ".parquet", *ARROW, ".npz")
KNOWN = f"a file that ends in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}, or of a folder of images or Parquet files"
NPZ_KEYS = ("x", "y"), ("x", "y", "x_validation", "y_validation", "x_test", "y_test")


def is_file(name: str) -> bool:
    """Whether `name` means a file or folder of the user's rather than a dataset that has a name."""
    return "/" in name or "\\" in name or name.lower().endswith(SUFFIXES) or (name not in NAMES and Path(name).exists())


def read(source: DataSource, seed: int) -> Raw:
    """Read a dataset by name, or a file or folder by path.

    Args:
        source: in which nothing is wrong, as far as `file_problems` tells.
        seed: of the split of a table's rows.

    Raises:
        DataError: for anything that cannot be read.
    """
    name, path = source.name, Path(source.name)
    if name in NAMES:
        return read_published(name, source.root.expanduser())
    if _is_table(path, source.columns):
        return table_data.read(path, source.columns, seed)
    if path.is_dir():
        return _read_folder(path)
    return _read_npz(path) if suffix_of(path) == ".npz" else read_parquet(path)


def is_table(source: DataSource) -> bool:
    """Whether it is a table of the user's, in which `file_problems` finds nothing."""
    return source.name not in NAMES and _is_table(Path(source.name), source.columns)


def _is_table(path: Path, columns: Columns) -> bool:
    """Whether the columns of a user's file are of any kind. A Parquet file that is all numbers, and one of images, is
    read as it stands."""
    if suffix_of(path) in (*TEXT, *ARROW) or is_folder_of_tables(path):
        return True
    return suffix_of(path) == ".parquet" and (bool(columns) or not is_all_numbers_or_images(path))


def file_problems(source: DataSource) -> list[str]:
    """What is wrong with a user's file or folder, as far as its directory or footer tells."""
    path, columns = Path(source.name), source.columns
    if suffix_of(path) in SUFFIXES or path.is_dir():
        try:
            if _is_table(path, columns):
                wrong_way = [f"--preprocess none is for arrays, but {str(path)!r} is a table"]
                return [*table_data.problems(path, columns), *([] if source.is_standardised else wrong_way)]
        except (OSError, pa.ArrowException) as error:
            return [unreadable(path, error)]
    if columns:
        return [f"{', '.join(columns.flags)}: for tables, and {str(path)!r} is none"]
    wrong = _file_problem(path)
    return [wrong] if wrong else []


def _file_problem(path: Path) -> str | None:
    """Of a file or folder that is no table."""
    try:
        if path.is_dir():
            files = [
                file for part in find_splits(path).values() for mine in list_classes(part).values() for file in mine
            ]
            return memory.problem(str(path), len(files) * decoded_size(files[0]))
        if suffix_of(path) not in SUFFIXES:
            return f"data must be {KNOWN}, but got {str(path)!r}"
        if suffix_of(path) == ".npz":
            with zipfile.ZipFile(path) as archive:
                _check_keys(path, [Path(item).stem for item in archive.namelist()])
                return memory.problem(str(path), sum(item.file_size for item in archive.infolist()))
        footer = pq.read_metadata(path)
        check_columns(path, footer.schema.to_arrow_schema())
        groups = (footer.row_group(index) for index in range(footer.num_row_groups))
        return memory.problem(str(path), sum(group.total_byte_size for group in groups))
    except (DataError, PictureError) as error:
        return printable(f"{error}{_way_to_tables(path)}")
    except (OSError, zipfile.BadZipFile, pa.ArrowException) as error:
        return unreadable(path, error)


def _way_to_tables(path: Path) -> str:
    """What makes a folder of tables one that is read; "" for other folders and files."""
    found = next((file for file in path.rglob("*") if suffix_of(file) in (*TEXT, *ARROW, ".parquet")), None)
    if found is None:
        return ""
    return f"; of tables such as {found.relative_to(path)}, a folder must contain Parquet files and nothing else"


def _read_folder(path: Path) -> Raw:
    try:
        split = find_splits(path)
        images_of = {role: list_classes(part) for role, part in split.items()}
        names = sorted({name for part in images_of.values() for name in part})
        pairs, notes = {}, describe_unread(path, split)
        for role, part in images_of.items():
            files = [(file, names.index(name)) for name, mine in part.items() for file in mine]
            x, changes = decode_images((str(file), file) for file, _ in files)
            pairs[role] = (x, np.array([label for _, label in files]))
            notes += [f"{role}: {change}" if role else change for change in changes]
    except PictureError as error:
        raise DataError(printable(str(error))) from error
    except OSError as error:
        raise DataError(unreadable(path, error)) from error
    classes = tuple(printable_name(name) for name in names)
    if len(set(classes)) < len(classes):
        raise DataError(f"classes must have different names, but {str(path)!r} has {', '.join(classes)}")
    return Raw(
        pairs.get("train") or pairs[""],
        pairs.get("validation"),
        pairs.get("test"),
        f"{printable_name(path.name)}, the user's folder",
        classes,
        tuple(printable(note) for note in notes),
        pictures=True,
    )


def _read_npz(path: Path) -> Raw:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        if "Object arrays" in str(error):
            raise DataError(
                f"arrays must be of numbers or text, but {str(path)!r} has one of objects: pad sequences to one "
                "length, and save text as np.array(..., dtype=str)"
            ) from error
        raise DataError(unreadable(path, error)) from error
    _check_keys(path, arrays)
    arrays = {key: array.astype(np.int64) if array.dtype == bool else array for key, array in arrays.items()}
    arrays = {key: require_exact(path, key, array) for key, array in arrays.items()}
    parts = [(arrays["x" + end], arrays["y" + end]) for end in ("", "_validation", "_test") if "x" + end in arrays]
    source = f"{printable_name(path.name)}, the user's file"
    validation, test = parts[1:] or (None, None)
    return Raw(parts[0], validation, test, source)


def _check_keys(path: Path, keys: Iterable[str]) -> None:
    if set(keys) not in [set(allowed) for allowed in NPZ_KEYS]:
        allowed = " or ".join(", ".join(keys) for keys in NPZ_KEYS)
        raise DataError(
            f"{str(path)!r} must contain the arrays {allowed}, but contains {', '.join(sorted(keys)) or 'none'}"
        )
