"""Samples keep their values on the way into a data set; what does not is told at the start, or refused in a line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from rungwise.results.model.images import ImageError, read
from rungwise.trainable.data.data_source import DataSource
from rungwise.trainable.data.dataset import DataError, Dataset, load, notes, problems

RNG = np.random.default_rng(5)
DEEP = np.array([[0, 257, 8_000], [40_000, 65_000, 65_535]], np.uint16)
DEEP_IN_8_BITS = [[0, 1, 31], [156, 253, 255]]


def folder_of(path: Path, save: Any, classes: tuple[str, ...] = ("a", "b"), count: int = 6) -> Path:
    """`count` images in each class, written by save(image's path without a suffix)."""
    for name in classes:
        (path / name).mkdir(parents=True)
        for index in range(count):
            save(path / name / str(index))
    return path


def grey(path: Path, pixels: Any = None, suffix: str = ".png", **options: Any) -> None:
    pixels = RNG.integers(0, 256, (4, 3), dtype=np.uint8) if pixels is None else pixels
    Image.fromarray(np.asarray(pixels)).save(path.with_name(path.name + suffix), **options)


def described(data: Dataset) -> dict[str, Any]:
    return {"shape": list(data.shape), "dtype": "uint8", "mean": list(data.mean), "highest": data.highest}


# -- pictures: what they become, in training and in `predict` ------------------------------------------------------


def exif(turn: int) -> Image.Exif:
    made = Image.Exif()
    made[0x0112] = turn
    return made


def clear(mode: str) -> Image.Image:
    """Left transparent, right 100; what hides under transparency is 7."""
    image = Image.new("LA", (2, 1))
    image.putdata([(7, 0), (100, 255)])
    if mode == "palette":
        image = Image.new("P", (2, 1))
        image.putpalette([7, 7, 7, 100, 100, 100])
        image.putdata([0, 1])
        image.info["transparency"] = 0
        return image
    return image.convert(mode)


def turned(turn: int) -> Image.Image:
    """What a camera stores so that a viewer, who turns it as EXIF says, shows [[10, 20, 30], [40, 50, 60]]."""
    upright = Image.fromarray(np.array([[10, 20, 30], [40, 50, 60]], np.uint8))
    how = Image.Transpose
    undo = {2: how.FLIP_LEFT_RIGHT, 3: how.ROTATE_180, 4: how.FLIP_TOP_BOTTOM, 5: how.TRANSPOSE, 6: how.ROTATE_90,
            7: how.TRANSVERSE, 8: how.ROTATE_270}  # fmt: skip
    return upright.transpose(undo[turn])


SCALED = "16 bits per pixel scaled to 8"
WHITE, TURNED = "transparent parts composited on white", "rotated according to EXIF"
UPRIGHT = [[10, 20, 30], [40, 50, 60]]
PICTURES: dict[str, tuple[Any, str, dict[str, Any], Any, str]] = {
    "16 bits": (Image.fromarray(DEEP), "png", {}, DEEP_IN_8_BITS, SCALED),
    "16 bits, tiff": (Image.fromarray(DEEP), "tif", {}, DEEP_IN_8_BITS, SCALED),
    "16 bits, pgm": (
        Image.fromarray(DEEP.astype(np.int32)),
        "pgm",
        {},
        DEEP_IN_8_BITS,
        "16 bits per pixel scaled to 8",
    ),
    "black and white": (Image.fromarray(np.array([[True, False]])), "png", {}, [[255, 0]], ""),
    "grey and alpha": (clear("LA"), "png", {}, [[255, 100]], WHITE),
    "colour and alpha": (clear("RGBA"), "png", {}, [[255, 100]], WHITE),
    "palette and alpha": (
        clear("palette"),
        "png",
        {"transparency": 0},
        [[255, 100]],
        "transparent parts composited on white",
    ),
    "CMYK": (Image.new("CMYK", (2, 1), (0, 0, 0, 0)), "tif", {}, [[255, 255]], "CMYK converted to RGB"),
    "animation": (
        Image.new("L", (2, 1), 9),
        "gif",
        {"save_all": True, "append_images": [Image.new("L", (2, 1), 99)]},
        [[9, 9]],
        "first frame or page only",
    ),
    **{f"turn {turn}": (turned(turn), "png", {"exif": exif(turn)}, UPRIGHT, TURNED) for turn in range(2, 9)},
}


@pytest.mark.parametrize("case", list(PICTURES))
def test_a_picture_is_the_same_in_training_and_in_use_and_what_was_done_is_told(tmp_path: Path, case: str) -> None:
    image, suffix, options, wanted, change = PICTURES[case]
    place = folder_of(tmp_path / "set", lambda path: image.save(path.with_suffix(f".{suffix}"), **options))
    data = load(str(place))
    first = data.train.x[0]
    assert first.shape[0] in (1, 3)
    assert all(channel.tolist() == wanted for channel in first)
    picture = read(place / "a" / f"0.{suffix}", described(data))
    assert np.array_equal(picture.pixels, first)
    assert [note for note in picture.notes if "--invert" not in note] == ([change] if change else [])
    assert [note for note in notes(data) if "of 12 images" in note] == (
        [f"12 of 12 images: {change}"] if change else []
    )


def test_a_picture_of_a_set_without_white_is_not_made_darker_in_use(tmp_path: Path) -> None:
    """The brightest pixel that was trained on may be 200, or 90; white is 255 all the same."""
    for highest in (200, 90):
        pixels = np.full((4, 3), highest, np.uint8)
        place = folder_of(tmp_path / str(highest), lambda path, pixels=pixels: grey(path, pixels))
        data = load(str(place))
        assert np.array_equal(read(place / "a" / "0.png", described(data)).pixels, data.train.x[0])
        np.savez(tmp_path / "own.npz", x=np.full((20, 4, 3), highest, np.uint8), y=np.arange(20) % 2)
    assert load(str(tmp_path / "own.npz")).highest == 90  # raw arrays may have a range of their own, as digits do
    assert load("digits").highest == 16


@pytest.mark.parametrize(
    ("image", "suffix", "why"),
    [
        (Image.fromarray(DEEP.astype(np.int32)), "tif", "its pixels are 32-bit numbers of unknown range"),
        (Image.fromarray(DEEP / np.float32(65535)), "tif", "its pixels are floating-point numbers"),
    ],
)
def test_pixels_without_a_range_are_refused_in_training_and_in_use(
    tmp_path: Path, image: Image.Image, suffix: str, why: str
) -> None:
    place = folder_of(tmp_path / "set", lambda path: image.save(path.with_suffix(f".{suffix}")))
    with pytest.raises(DataError, match=rf"a/0\.{suffix} is not: {why}"):
        load(str(place))
    with pytest.raises(ImageError, match=why):
        read(place / "a" / f"0.{suffix}", {"shape": [1, 2, 3], "dtype": "uint8", "mean": [9.0]})


def test_sixteen_bits_of_which_few_are_used_are_told(tmp_path: Path) -> None:
    """12-bit sensors write 0..4095: 16 of 256 levels are left."""
    data = load(str(folder_of(tmp_path / "set", lambda path: grey(path, DEEP // 16))))
    assert any("the brightest 16-bit pixel is 4,095 of 65,535" in note for note in notes(data))


def test_a_bomb_and_a_torn_picture_are_one_line_that_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = folder_of(tmp_path / "set", grey)
    whole = (place / "b" / "3.png").read_bytes()
    (place / "b" / "3.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"b/3\.png is not: ") as raised:
        load(str(place))
    assert "\n" not in str(raised.value)
    (place / "b" / "3.png").write_bytes(whole)
    for limit in (3, 8):  # an error beyond twice the limit, a warning before
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        (problem,) = problems(DataSource(str(place)))
        assert "a/0.png is not: Image size (12 pixels) exceeds limit" in problem


# -- folders -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        ("Training", "val", "Testing"),
        ("seg_train/seg_train", "valid", "seg_test/seg_test"),
        ("TRAIN", "dev", "test-set"),
    ],
)
def test_folders_of_a_split_are_no_classes_whatever_they_are_called(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name, count in zip(names, (7, 5, 3), strict=True):
        folder_of(tmp_path / "set" / name, grey, count=count)
    data = load(str(tmp_path / "set"))
    assert data.classes == ("a", "b")
    assert [len(data.train), len(data.validation), len(data.test or ())] == [14, 10, 6]
    assert any(f"{names[0]} as train, {names[1]} as validation" in note for note in notes(data))


def test_without_a_validation_folder_one_is_drawn_and_it_is_told(tmp_path: Path) -> None:
    for name, count in (("Training", 12), ("Testing", 4)):
        folder_of(tmp_path / "set" / name, grey, count=count)
    data = load(str(tmp_path / "set"))
    assert [len(data.train), len(data.validation), len(data.test or ())] == [20, 4, 8]
    assert any("no validation split: it is drawn from train" in note for note in notes(data))


def test_a_split_that_is_not_whole_or_ambiguous_is_refused(tmp_path: Path) -> None:
    for name in ("train", "test"):  # as some competitions have them: images without classes
        (tmp_path / "flat" / name).mkdir(parents=True)
        grey(tmp_path / "flat" / name / "0")
    assert "a split must contain one folder of images per class" in problems(DataSource(str(tmp_path / "flat")))[0]
    for name in ("train", "test", "Testing"):
        folder_of(tmp_path / "twice" / name, grey)
    assert "must contain one test, but" in problems(DataSource(str(tmp_path / "twice")))[0]
    for name in ("val", "test"):
        folder_of(tmp_path / "untrained" / name, grey)
    assert "has no train beside test, val" in problems(DataSource(str(tmp_path / "untrained")))[0]


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    assert load(str(folder_of(tmp_path / "set", grey, ("bus", "car", "train")))).classes == ("bus", "car", "train")


def test_files_that_are_not_read_are_told_and_hidden_ones_left_out(tmp_path: Path) -> None:
    place = folder_of(tmp_path / "set", grey)
    digest = load(str(place)).digest
    assert not any("ignored" in note for note in notes(load(str(place))))
    (place / ".DS_Store").write_bytes(b"x")
    (place / "a" / "._0.png").write_bytes(b"what macOS adds")
    (place / "a" / ".ipynb_checkpoints").mkdir()
    grey(place / "a" / ".ipynb_checkpoints" / "0-checkpoint")
    folder_of(place / "__MACOSX", grey)
    grey(place / "lost")
    (place / "b" / "0.heic").write_bytes(b"x")
    (place / "b" / "notes.txt").write_bytes(b"x")
    (place / "b" / "more").symlink_to(place / "a")
    data = load(str(place))
    assert data.digest == digest
    (note,) = [note for note in notes(data) if note.startswith("ignored in set")]
    for part in ("1 hidden images", "1 *.heic", "1 *.txt", "1 links to folders", "1 images outside a class's folder"):
        assert part in note


def test_names_that_are_not_utf_8_are_shown_escaped(tmp_path: Path) -> None:
    for name in (b"caf\xe9", b"th\xe9\n"):
        os.makedirs(os.fsencode(tmp_path) + b"/drinks/" + name)
        for index in range(6):
            grey(Path(os.fsdecode(os.fsencode(tmp_path) + b"/drinks/" + name + b"/%d" % index)))
    data = load(str(tmp_path / "drinks"))
    assert data.classes == (r"caf\xe9", r"th\xe9\n")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/drinks/caf\xe9/0.png")).write_bytes(b"no image")
    with pytest.raises(DataError, match=r"caf\\xe9/0\.png is not") as raised:
        load(str(tmp_path / "drinks"))
    assert str(raised.value).encode()  # which surrogates would refuse
    assert problems(DataSource(str(tmp_path / "drinks")))[0].encode()


# -- tables --------------------------------------------------------------------------------------------------------


def table(path: Path, columns: Any, **metadata: str) -> str:
    made = columns if isinstance(columns, pa.Table) else pa.table(columns)
    if metadata:
        index = made.schema.get_field_index("label")
        made = made.cast(made.schema.set(index, made.schema.field("label").with_metadata(metadata)))
    pq.write_table(made, path / "own.parquet")
    return str(path / "own.parquet")


@pytest.mark.parametrize("name", [None, "patient"])
def test_the_index_of_a_pandas_table_is_no_feature(tmp_path: Path, name: str | None) -> None:
    """Rows sorted by class, shuffled and saved: the index tells the class."""
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(RNG.normal(size=(60, 2)), columns=["a", "b"])
    frame["label"] = (frame.index >= 30).astype(int)
    frame = frame.sample(frac=1, random_state=1).rename_axis(name)
    frame.to_parquet(tmp_path / "own.parquet")
    data = load(str(tmp_path / "own.parquet"))
    assert data.shape == (2,)
    shown = name or "__index_level_0__"
    assert f"left out, because they are the index of a pandas table: {shown!r}" in notes(data)
    columns = pq.read_table(tmp_path / "own.parquet")
    assert load(table(tmp_path, columns.replace_schema_metadata(None))).shape == ((2,) if name is None else (3,))


@pytest.mark.parametrize(
    ("numbers", "said"), [(range(60), "0 to 59"), (np.arange(7.0, 67.0), "7 to 66"), (range(0, 120, 2), "0 to 118")]
)
def test_a_column_that_numbers_the_rows_is_told(numbers: Any, said: str, tmp_path: Path) -> None:
    columns = {"Unnamed: 0": RNG.permutation(numbers), "a": RNG.normal(size=60), "label": np.arange(60) % 2}
    data = load(table(tmp_path, columns))
    assert data.shape == (2,)
    told = [note for note in notes(data) if "numbers the rows" in note]
    assert len(told) == 1
    assert f"column 'Unnamed: 0' numbers the rows, {said}, and is a feature" in told[0]


def test_large_numbers_keep_their_digits(tmp_path: Path) -> None:
    exact = RNG.normal(size=80)
    columns = {"time": 1.7e9 + exact, "a": exact, "label": np.arange(80) % 2}
    data = load(table(tmp_path, columns))
    assert data.offset is not None
    assert data.offset[1] == 0
    assert any("1 of 2 columns contain numbers so large beside their spread" in note for note in notes(data))
    scaled = (data.train.x - np.array(data.mean)) / np.array(data.std)
    assert np.abs(scaled[:, 0] - scaled[:, 1]).max() < 1e-5
    assert load(table(tmp_path, {"time": 1000 + exact, "a": exact, "label": np.arange(80) % 2})).offset is None


def test_whole_numbers_beyond_float64_and_targets_beyond_float32_are_refused(tmp_path: Path) -> None:
    y = np.arange(80) % 2
    with pytest.raises(DataError, match=r"whole numbers must be within \+-2\^53 to keep their digits, but 'id'"):
        load(table(tmp_path, {"id": 2**60 + np.arange(80), "label": y}))
    np.savez(tmp_path / "own.npz", x=2**60 + np.arange(160).reshape(80, 2), y=y)
    with pytest.raises(DataError, match="to keep their digits, but 'x'"):
        load(str(tmp_path / "own.npz"))
    with pytest.raises(DataError, match="targets must keep their digits in float32"):
        load(table(tmp_path, {"a": RNG.normal(size=80), "label": 1.7e9 + RNG.normal(size=80)}))


def test_identifiers_are_told_to_be_taken_as_amounts(tmp_path: Path) -> None:
    """Token ids (N, L): standardised they mean nothing."""
    np.savez(tmp_path / "own.npz", x=RNG.integers(0, 30_000, (60, 12)), y=np.arange(60) % 2)
    assert any(
        "all features are whole numbers: they are taken as amounts" in note
        for note in notes(load(str(tmp_path / "own.npz")))
    )
    assert notes(load("iris")) == []
    lines = [f"{n % 7},{n % 11},{n % 13},{'abc'[n % 3]},{'yes' if n % 2 else 'no'}" for n in range(60)]
    (tmp_path / "own.csv").write_text("\n".join(["a,b,c,d,label", *lines]))  # of a table its columns are told
    assert not any("amounts" in note for note in notes(load(str(tmp_path / "own.csv"))))


def test_whole_labels_in_real_numbers_are_classes_and_told_unless_they_are_said_to_be_targets(tmp_path: Path) -> None:
    columns = {"a": RNG.normal(size=90), "label": (np.arange(90) % 3).astype(float)}
    data = load(table(tmp_path, columns))
    assert data.classes == ("0", "1", "2")
    assert data.train.y.dtype == np.int64
    assert any("0 to 2: they are taken as classes" in note for note in notes(data))
    assert load(table(tmp_path, columns, kind="target")).target is not None
    whole = {"a": RNG.normal(size=90), "label": np.arange(90) % 3}
    assert load(table(tmp_path, whole)).classes == ("0", "1", "2")
    assert load(table(tmp_path, whole, kind="target")).target is not None
    with pytest.raises(DataError, match="targets of a regression must be numbers"):
        load(table(tmp_path, {"a": RNG.normal(size=90), "label": ["x", "y", "z"] * 30}, kind="target"))


def test_labels_that_could_be_meant_otherwise_are_told(tmp_path: Path) -> None:
    stars = {"a": RNG.normal(size=90), "label": 1.0 + np.arange(90) % 5}
    data = load(table(tmp_path, stars))
    assert data.target is not None
    assert any("1 to 5: they are taken as targets of a regression" in note for note in notes(data))
    ages = {"a": RNG.normal(size=90), "label": np.arange(90) % 45}
    assert any("45 classes share" in note for note in notes(load(table(tmp_path, ages))))


def test_labels_of_one_split_in_another_type_are_refused(tmp_path: Path) -> None:
    """0.7 among whole labels would become 0."""
    x, y = RNG.normal(size=(30, 2)), np.arange(30) % 2
    parts = {"x": x, "y": y, "x_validation": x, "y_validation": y, "x_test": x, "y_test": y + 0.7}
    np.savez(tmp_path / "own.npz", **parts)
    with pytest.raises(DataError, match="labels of every split must be of one kind"):
        load(str(tmp_path / "own.npz"))


@pytest.mark.parametrize("shape", [(24, 8, 6, 3), (24, 8, 6, 1), (24, 8, 6, 4)])
def test_images_with_channels_last_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.savez(tmp_path / "own.npz", x=np.zeros(shape, np.uint8), y=np.arange(24) % 2)
    with pytest.raises(DataError, match=r"looks like channels last; save x\.transpose\(0, 3, 1, 2\)"):
        load(str(tmp_path / "own.npz"))


@pytest.mark.parametrize("rows", [6, 8, 10, 12])
def test_a_table_of_few_rows_has_two_in_each_split(tmp_path: Path, rows: int) -> None:
    data = load(table(tmp_path, {"dose": RNG.normal(size=rows), "label": np.arange(rows) % 2}))
    assert min(len(data.train), len(data.validation), len(data.test or ())) == 2
    with pytest.raises(DataError, match=r"own\.parquet' must have 6 samples or more, 2 for each .*, but has 5"):
        load(table(tmp_path, {"dose": RNG.normal(size=5), "label": np.arange(5) % 2}))


def test_classes_that_are_absent_or_alike_are_told(tmp_path: Path) -> None:
    label = ["cat"] * 9 + ["Cat "] * 9 + ["dog"]
    told = notes(load(table(tmp_path, {"dose": RNG.normal(size=19), "label": label})))
    assert "classes that differ in case or spaces alone: 'Cat ', 'cat'" in told
    absent = [note for note in told if note.startswith("no ") and "'dog'" in note]
    assert len(absent) == 2  # it is in one of three splits


def test_a_folder_that_may_not_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not left out: the walk through folders passes errors over by default. Root may read all, so scandir says no."""
    place = folder_of(tmp_path / "set", grey)
    (place / "b" / "closed").mkdir()
    scandir = os.scandir

    def refusing(path: Any) -> Any:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert "Permission denied" in problems(DataSource(str(place)))[0]
