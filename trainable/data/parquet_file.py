"""A Parquet file of the user's: its checks, its columns, and its samples."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rungwise.text import printable_name
from rungwise.trainable.data.image_folder import PictureError, decode_images
from rungwise.trainable.data.raw import FEW_ROWS, PARTS, Array, DataError, Raw, part_of, require_exact, unreadable
from rungwise.trainable.data.table.columns import SPLIT, TARGET


def read_table(path: Path) -> pa.Table:
    """Read a Parquet file, refusing any page whose checksum does not hold.

    Without verification 255 of 300 single-bit flips read back as wrong pixels and no error.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            return file.read()
    except (OSError, pa.ArrowException) as error:
        raise DataError(unreadable(path, error)) from error


def pixels_of(column: pa.ChunkedArray, shape: tuple[int, ...]) -> Array:
    """A fixed-size binary column as uint8 (N, *shape)."""
    width = column.type.byte_width
    parts = [
        np.frombuffer(chunk.buffers()[1], np.uint8, len(chunk) * width, chunk.offset * width) for chunk in column.chunks
    ]
    joined = np.concatenate(parts) if parts else np.empty(0, np.uint8)
    return joined.reshape(-1, *shape)


def read_parquet(path: Path) -> Raw:
    table = read_table(path)
    names = check_columns(path, table.schema)
    used = [*names, *(name for name in (TARGET, SPLIT) if name in table.column_names)]
    for name in used:
        if table[name].null_count:
            raise DataError(f"columns of {str(path)!r} must have no nulls, but {name!r} has {table[name].null_count}")
    field = table.schema.field(names[0])
    pictures = names == ["image"] and not _is_feature(field.type)
    notes = _notes_of_columns(table, names)
    if pictures and pa.types.is_fixed_size_binary(field.type):
        x, pictures = pixels_of(table["image"], _shape_of(path, field)), False
    elif pictures:
        try:
            x, changes = decode_images(
                (f"row {row} of {path}", _content(value)) for row, value in enumerate(table["image"].to_pylist())
            )
        except PictureError as error:
            raise DataError(str(error)) from error
        notes += changes
    else:
        x = np.column_stack([require_exact(path, name, _numbers(table[name])) for name in names])
        _require_finite(path, table, names)
    y = table[TARGET].to_numpy()
    if y.dtype == object:  # text
        y = y.astype(str)
    raw = Raw(
        (x, y),
        None,
        None,
        f"{printable_name(path.name)}, the user's file",
        notes=tuple(notes),
        pictures=pictures,
        regression=(table.schema.field(TARGET).metadata or {}).get(b"kind") == b"target",
    )
    if SPLIT not in table.column_names:
        return raw
    said = table[SPLIT].to_pylist()
    split = np.array([part_of(value) for value in said], object)
    if set(split) != set(PARTS):
        values = ", ".join(sorted({str(value) for value in said}))
        raise DataError(f"column {SPLIT!r} of {str(path)!r} must say {', '.join(PARTS)}, but says {values}")
    train, validation, test = ((x[split == part], y[split == part]) for part in PARTS)
    return replace(raw, train=train, validation=validation, test=test)


def _require_finite(path: Path, table: pa.Table, names: list[str]) -> None:
    """Raises DataError, which names the first column with a number that is none: Polars and NumPy keep NaN."""
    for name in (*names, TARGET):
        if pa.types.is_floating(table[name].type):
            wrong = np.flatnonzero(~np.isfinite(table[name].to_numpy()))
            if len(wrong):
                value = table[name][int(wrong[0])].as_py()
                way = f"--target {TARGET!r} takes NaN as a missing value" if value != value else f"--drop {name!r}"
                raise DataError(
                    f"columns of {str(path)!r} must contain finite numbers, but row {wrong[0] + 1} of {name!r} has "
                    f"{value}{f' (and {len(wrong) - 1} more)' if len(wrong) > 1 else ''}: {way}"
                )


def _numbers(column: pa.ChunkedArray) -> Array:
    numbers: Array = column.to_numpy()
    return numbers.astype(np.int64) if numbers.dtype == bool else numbers


def _notes_of_columns(table: pa.Table, names: list[str]) -> list[str]:
    """Notes for the user: columns of pandas' index are left out, and a column may number the rows."""
    index = [name for name in index_columns(table.schema) if name not in (TARGET, SPLIT)]
    notes = []
    if index:
        notes.append(index_note(index))
    for name in names:
        if _numeric(table.schema.field(name).type) and len(table) > FEW_ROWS:
            numbers = np.sort(table[name].to_numpy())
            steps = np.diff(numbers)
            if steps[0] > 0 and (steps == steps[0]).all() and (numbers == np.trunc(numbers)).all():
                notes.append(
                    f"column {name!r} numbers the rows, {numbers[0]:.0f} to {numbers[-1]:.0f}, and is a feature; leave "
                    "it out of the file if it is an index"
                )
    return notes


def index_note(names: list[str]) -> str:
    return f"left out, because they are the index of a pandas table: {', '.join(map(repr, names))}"


def index_columns(schema: pa.Schema) -> list[str]:
    """Columns in which pandas keeps the index: by its own metadata, or by the name that it gives."""
    try:
        columns = (schema.pandas_metadata or {}).get("index_columns", [])
    except ValueError:  # not JSON
        columns = []
    index = {name for name in columns if isinstance(name, str)}
    return [name for name in schema.names if name in index or re.fullmatch(r"__index_level_\d+__", name)]


def category_columns(schema: pa.Schema) -> set[str]:
    """Columns of numbers that stand for categories: by their type, or by what pandas says of them."""
    try:
        said = (schema.pandas_metadata or {}).get("columns", [])
        named = {each.get("field_name") for each in said if each.get("pandas_type") == "categorical"}
    except (ValueError, AttributeError, TypeError):  # not JSON, or of another form
        named = set()
    types = {field.name: field.type for field in schema}
    coded = {name: kind.value_type for name, kind in types.items() if pa.types.is_dictionary(kind)}
    plain = {name: kind for name, kind in types.items() if name in named}
    return {name for name, kind in (plain | coded).items() if _numeric(kind)}


def check_columns(path: Path, schema: pa.Schema) -> list[str]:
    """The feature columns: `image` alone, or every column but `label` and `split`: numbers or booleans."""
    index = index_columns(schema)
    names = [name for name in schema.names if name not in (TARGET, SPLIT, *index)]
    unsuited = [name for name in names if not _is_feature(schema.field(name).type)]
    image = names == ["image"] and _is_image(schema.field("image").type)
    if len(set(schema.names)) != len(schema.names):
        raise DataError(f"columns of {str(path)!r} must have different names, but got {', '.join(schema.names)}")
    label = schema.field(TARGET).type if TARGET in schema.names else None
    if label is None or not (_numeric(label) or pa.types.is_string(label) or pa.types.is_large_string(label)):
        raise DataError(
            f"{str(path)!r} must have a column {TARGET!r} of whole numbers or text (classes) or real numbers "
            f"(targets), but has {', '.join(f'{field.name}: {field.type}' for field in schema)}"
        )
    if not names or (unsuited and not image):
        found = ", ".join(f"{name}: {schema.field(name).type}" for name in unsuited) or "no other column"
        raise DataError(
            f"beside {TARGET!r} and {SPLIT!r}, {str(path)!r} must have number columns only (leave out names and "
            f"identifiers, one-hot encode categories) or one binary column 'image', but has {found}"
        )
    if image and pa.types.is_fixed_size_binary(schema.field("image").type):
        _shape_of(path, schema.field("image"))
    return names


def is_all_numbers_or_images(path: Path) -> bool:
    """Whether a file can be read as it stands: features of numbers without nulls and a column `label`; or images.
    Raises OSError and pa.ArrowException."""
    footer = pq.read_metadata(path)
    schema = footer.schema.to_arrow_schema()
    if "image" in schema.names:
        return True
    if category_columns(schema):
        return False
    groups = [footer.row_group(index) for index in range(footer.num_row_groups)]
    statistics = [group.column(place).statistics for group in groups for place in range(group.num_columns)]
    try:
        names = check_columns(path, schema)
    except DataError:
        return False
    return bool(names) and not any(each is not None and each.has_null_count and each.null_count for each in statistics)


def _numeric(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _is_feature(kind: pa.DataType) -> bool:
    """Numbers, and the true and false of one-hot encoded categories (`pandas.get_dummies`), which are 1 and 0."""
    return _numeric(kind) or bool(pa.types.is_boolean(kind))


def _is_image(kind: pa.DataType) -> bool:
    """Raw pixels, files in a column, or files as Hugging Face's datasets have them: {bytes, path}."""
    if pa.types.is_struct(kind):
        return bool(kind.get_field_index("bytes") >= 0)
    return bool(pa.types.is_fixed_size_binary(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _content(value: Any) -> bytes:
    content: bytes = value["bytes"] if isinstance(value, dict) else value
    return content or b""


def _shape_of(path: Path, field: pa.Field) -> tuple[int, ...]:
    text = (field.metadata or {}).get(b"shape", b"").decode()
    sizes = tuple(int(part) for part in text.split(",")) if text.replace(",", "").isdecimal() else ()
    if len(sizes) != 3 or int(np.prod(sizes)) != field.type.byte_width:
        raise DataError(
            f"column 'image' of {str(path)!r} must say its shape as field metadata, such as shape=1,28,28 for 784 "
            f"bytes, but says {text!r} for {field.type.byte_width} bytes"
        )
    return sizes
