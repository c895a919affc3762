"""Data in the forms that it comes in: data frames, tables, lists, arrays of other libraries."""

import re

import datasets
import jax
import jax.numpy as jnp
import numpy as np
import pandas
import polars
import pytest

import fathomx as fx

RNG = np.random.default_rng(0)
VALUES = RNG.normal(size=(30, 3)).astype(np.float32)
LABELS = np.arange(30) % 3
TARGETS = RNG.normal(size=(30, 2))


def frame(library, array=VALUES, names="abc"):
    named = {name: array[:, place] for place, name in enumerate(names)}
    return library.DataFrame(named)


def hugging_face(tmp_path=None, **columns):
    made = datasets.Dataset.from_dict({k: np.asarray(v).tolist() for k, v in columns.items()})
    if tmp_path is None:
        return made
    made.save_to_disk(str(tmp_path / "stored"))
    return datasets.load_from_disk(str(tmp_path / "stored"))


@pytest.mark.parametrize(
    "form",
    [
        lambda array: frame(pandas, array),
        lambda array: frame(polars, array),
        lambda array: frame(polars, array).to_arrow(),
        lambda array: array.tolist(),
        jnp.asarray,
        lambda array: array.astype(">f8"),
        np.asfortranarray,
    ],
    ids=["pandas", "polars", "arrow", "lists", "jax", "big-endian", "fortran"],
)
@pytest.mark.parametrize("label", [np.asarray, pandas.Series, polars.Series, list])
def test_every_form_of_a_pair_is_the_same_data(form, label):
    wanted = fx.data.Dataset("mine", (VALUES, LABELS), classes=3)
    found = fx.data.Dataset("mine", (form(VALUES), label(LABELS)), classes=3)
    assert found.train.inputs.tobytes() == wanted.train.inputs.tobytes()
    assert found.train.labels.tolist() == wanted.train.labels.tolist()


def test_a_memory_map_is_kept_without_a_copy(tmp_path):
    np.save(tmp_path / "values.npy", VALUES)
    mapped = np.load(tmp_path / "values.npy", mmap_mode="r")
    data = fx.data.Dataset("mine", {"x": mapped})
    assert np.shares_memory(data.arrays("train")["x"], mapped)


@pytest.mark.parametrize("library", [pandas, polars])
def test_a_data_frame_alone_is_arrays_by_its_columns(library):
    data = fx.data.split(frame(library))
    assert data.named and set(data.arrays("train")) == {"a", "b", "c"}
    values = np.concatenate([data.arrays(title)["b"] for title in data.titles])
    np.testing.assert_array_equal(np.sort(values), np.sort(VALUES[:, 1]))


@pytest.mark.parametrize("library", [pandas, polars])
def test_data_frames_by_name(library):
    data = fx.data.Dataset(
        "mine", {"input": frame(library), "output": frame(library, TARGETS, "uv")}
    )
    np.testing.assert_array_equal(data.arrays("train")["input"], VALUES)
    np.testing.assert_array_equal(data.arrays("train")["output"], TARGETS.astype(np.float32))


@pytest.mark.parametrize("stored", [False, True])
def test_hugging_face_data_sets(stored, tmp_path):
    cube = RNG.normal(size=(30, 4, 5))
    columns = {"input": VALUES, "cube": cube, "output": LABELS}
    made = hugging_face(tmp_path if stored else None, **columns)
    arrays = fx.data.Dataset("mine", made).arrays("train")
    np.testing.assert_array_equal(arrays["input"], VALUES)
    np.testing.assert_array_equal(arrays["cube"], cube.astype(np.float32))
    assert arrays["output"].tolist() == LABELS.tolist()
    # Rows that were chosen or moved are those that are taken.
    taken = fx.data.Dataset("mine", made.select([4, 2])).arrays("train")
    np.testing.assert_array_equal(taken["input"], VALUES[[4, 2]])


def test_arrays_of_two_axes_in_a_hugging_face_data_set():
    features = datasets.Features({"x": datasets.Array2D((4, 5), "float32")})
    cube = RNG.normal(size=(6, 4, 5)).astype(np.float32)
    made = datasets.Dataset.from_dict({"x": list(cube)}, features=features)
    np.testing.assert_array_equal(fx.data.Dataset("mine", made).arrays("train")["x"], cube)


def test_nullable_columns_without_missing_values_are_numbers():
    made = pandas.DataFrame({"n": pandas.array([3, 4], dtype="Int64"), "x": [0.5, 1.5]})
    arrays = fx.data.Dataset("mine", made).arrays("train")
    assert arrays["n"].tolist() == [3, 4] and arrays["n"].dtype == np.int32


def with_column(library, values):
    made = frame(library)
    if library is polars:
        return made.with_columns(polars.Series("age", values))
    return made.assign(age=values)


@pytest.mark.parametrize("library", [pandas, polars])
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        (["x"] * 30, TypeError, "column 'age' holds .*, not numbers; leave it out, or turn it"),
        ([1.0, None] + [0.0] * 28, ValueError, "column 'age' has 1 missing values in 30 rows; fi"),
        ([None, None] + [1] * 28, ValueError, "column 'age' has 2 missing values in 30 rows; fi"),
        ([1.0, np.nan] + [0.0] * 28, ValueError, "column 'age' has 1 missing values in 30 rows"),
    ],
)
def test_a_bad_column_is_named(library, whole, values, error, words):
    given = with_column(library, values)
    with pytest.raises(error, match=words) as caught:
        fx.data.Dataset("mine", given if whole else (given, LABELS), classes=0 if whole else 3)
    assert str(caught.value).startswith("in the train part of data set 'mine', column")


@pytest.mark.parametrize(
    ("column", "error", "words"),
    [
        (["a", "b", "c"], TypeError, "column 'x' holds string, not numbers"),
        ([[1.0], [1.0, 2.0]], ValueError, "'x' holds lists of unlike length, from 1 to 2 values"),
        ([1.0, None], ValueError, "column 'x' has 1 missing values in 2 rows"),
        ([[1.0, None], [1.0, 2.0]], ValueError, "column 'x' has 1 missing values in 2 rows"),
    ],
)
def test_a_bad_column_of_a_hugging_face_data_set_is_named(column, error, words):
    with pytest.raises(error, match=words):
        fx.data.Dataset("mine", datasets.Dataset.from_dict({"x": column}))


def test_columns_of_one_name():
    made = frame(pandas)
    made.columns = ["a", "a", "c"]
    with pytest.raises(ValueError, match="several columns called 'a'; give each a name of its own"):
        fx.data.split(made)


def network(outputs):
    return fx.models.mlp(3, outputs, width=4, depth=3, key=jax.random.key(0))


@pytest.mark.parametrize("library", [pandas, polars])
def test_fit_takes_data_frames(library):
    x, y = frame(library), frame(library, TARGETS, "uv")
    found = fx.fit(network(2), (x, y), epochs=1, batch_size=8)
    wanted = fx.fit(network(2), (VALUES, TARGETS), epochs=1, batch_size=8)
    assert found.summary["test_loss"] == wanted.summary["test_loss"]
    classes = fx.fit(network(3), (x, library.Series(LABELS)), epochs=1, batch_size=8)
    assert classes.summary["test_accuracy"] is not None


@pytest.mark.parametrize("library", [pandas, polars])
def test_a_target_of_the_wrong_width_is_named(library):
    words = (
        "the targets ('u') have the shape (1,) for each example, but node 'output' predicts (2,); "
        "give as many targets, or build the network for these."
    )
    with pytest.raises(ValueError, match=re.escape(words)):
        fx.fit(network(2), (frame(library), frame(library, TARGETS[:, :1], "u")))


def test_one_target_needs_no_axis_of_its_own():
    x, y = frame(pandas), pandas.Series(TARGETS[:, 0], name="u")
    found = fx.fit(network(1), (x, y), epochs=1, batch_size=8)
    wanted = fx.fit(network(1), (VALUES, TARGETS[:, :1]), epochs=1, batch_size=8)
    assert found.summary["test_loss"] == wanted.summary["test_loss"]


@pytest.mark.parametrize("titles", [(), ("validation",), ("test",)])
def test_parts_that_are_missing_are_not_scored(titles):
    parts = {title: (VALUES, LABELS) for title in titles}
    data = fx.data.Dataset("mine", (VALUES, LABELS), classes=3, **parts)
    assert data.titles == ("train", *titles) and data.take(8).titles == data.titles
    assert all(data.arrays(t) == {} for t in ("validation", "test") if t not in titles)
    summary = fx.fit(network(3), data, epochs=1, batch_size=8).summary
    for title in ("validation", "test"):
        assert (summary[f"{title}_loss"] is not None) == (title in titles)
        assert (summary[f"{title}_accuracy"] is not None) == (title in titles)
