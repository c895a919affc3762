"""Tables in files and data frames: divided, standardized, and mistakes with their column named."""

import numpy as np
import pandas as pd
import polars
import pyarrow
import pyarrow.parquet
import pytest

import fathomx as fx

RNG = np.random.default_rng(0)
N = 50
FRAME = pd.DataFrame(
    {
        "area": 100 + 20 * RNG.normal(size=N),
        "floor": RNG.integers(0, 30, N),
        "lift": RNG.random(N) < 0.5,
        "price": 1e5 + 2e4 * RNG.normal(size=N),
        "days": RNG.integers(0, 1000, N),
        "rooms": RNG.integers(1, 6, N),
        "town": np.where(RNG.random(N) < 0.3, "Rome", "Bern"),
        "old": RNG.integers(0, 2, N),
        "dear": RNG.random(N) < 0.5,
    }
)
COLUMNS = ["area", "floor", "lift"]


def forms(frame, folder):
    """The same table in every form."""
    frame.to_csv(folder / "houses.csv", index=False)
    table = pyarrow.Table.from_pandas(frame, preserve_index=False)
    pyarrow.parquet.write_table(table, folder / "houses.parquet")
    paths = folder / "houses.csv", str(folder / "houses.parquet")
    return [*paths, frame, table, polars.from_arrow(table)]


def whole(data, end):
    return np.concatenate([data.arrays(t)[end] for t in ("train", "validation", "test")])


@pytest.mark.parametrize("form", range(5))
def test_real_targets_of_every_form(form, tmp_path):
    targets = ["price", "days"]
    data = fx.data.table(forms(FRAME[COLUMNS + targets], tmp_path)[form], targets)
    assert [len(data.arrays(t)["input"]) for t in ("train", "validation", "test")] == [35, 5, 10]
    for end, columns in (("input", COLUMNS), ("output", targets)):
        train, scale = data.train[end], data.preparation.scales[end]
        np.testing.assert_allclose(train.mean(axis=0), 0, atol=1e-5)
        np.testing.assert_allclose(train.std(axis=0), 1, atol=1e-5)
        # Every row once, in its own units.
        raw, own = scale.raw(whole(data, end)), FRAME[columns].to_numpy(float)
        order, places = np.lexsort(raw.T.round(2)), np.lexsort(own.T.round(2))
        np.testing.assert_allclose(raw[order], own[places], rtol=1e-5, atol=1e-4)
    assert data.preparation.columns == tuple(COLUMNS)
    assert data.name == ("houses" if form < 2 else "table")


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        ("town", "classification"),
        ("rooms", "classification"),
        ("dear", "classification"),
        ("price", "regression"),
        ("days", "regression"),
        (["old", "dear"], "multi-label"),
        (["old", "days"], "regression"),
    ],
)
def test_the_task_that_columns_suggest(target, kind, tmp_path):
    names = [target] if isinstance(target, str) else target
    data = fx.data.table(FRAME[COLUMNS + names], target)
    if kind == "classification":
        values = np.unique(FRAME[target])
        assert not data.named and data.classes == len(values)
        assert data.class_names == tuple(map(str, values))
        counts = np.bincount(whole(data, "target"))
        assert counts.tolist() == [int((FRAME[target] == v).sum()) for v in values]
    else:
        assert data.arrays("train")["output"].dtype == (bool if kind == "multi-label" else "f4")
        assert ("output" in data.preparation.scales) == (kind == "regression")
        assert data.train["output"].shape == (35, len(names))


def test_a_task_can_be_chosen_and_seeds_divide_unlike():
    rooms = FRAME[[*COLUMNS, "rooms"]]
    assert fx.data.table(rooms, "rooms", "regression").named
    one, same, other = (fx.data.table(rooms, "rooms", seed=seed) for seed in (1, 1, 2))
    assert (one.train.inputs == same.train.inputs).all()
    assert not (one.train.inputs == other.train.inputs).all()


SPOILED = FRAME[[*COLUMNS, "price"]].astype({"price": str})
SPOILED = SPOILED.assign(price=SPOILED.price.where(SPOILED.index != 3, "n/a"))
HOLES = FRAME[[*COLUMNS, "price"]].astype({"area": float})
HOLES = HOLES.assign(area=HOLES.area.where(HOLES.index != 3))


@pytest.mark.parametrize(
    ("frame", "target", "task", "words"),
    [
        (HOLES, "price", None, "column 'area' has 1 missing values in 50 rows"),
        (HOLES, "area", None, "column 'area' has 1 missing values in 50 rows"),
        (FRAME[["area", "town", "price"]], "price", None, "column 'town' holds .*, not numbers"),
        (SPOILED, "price", None, "numbers and texts, such as 'n/a' in row 4; correct these"),
        (FRAME, "prize", None, "no column 'prize' to be the target. Did you mean 'price'"),
        (FRAME[["price"]], "price", None, "no columns beside its targets"),
        (FRAME, [], None, "at least one target, of area, floor"),
        (FRAME, ["price", "price"], None, "'price' is given twice"),
        (FRAME[:9], "price", None, "holds 9 rows, and at least 10"),
        (FRAME[[*COLUMNS, "town"]], "town", "regression", "column 'town' holds texts"),
        (FRAME[[*COLUMNS, "days"]], "days", "multi-label", "'days' holds other values than 0 and"),
        (FRAME[[*COLUMNS, "price"]], "price", "classification", "50 different numbers, which are"),
        (FRAME[[*COLUMNS, "old", "dear"]], ["old", "dear"], "classification", "has one target"),
        (FRAME[[*COLUMNS]].assign(t=1), "t", None, "column 't' holds one class alone"),
        (FRAME[[*COLUMNS, "price"]], "price", "guessing", "unknown task 'guessing'"),
    ],
)
def test_mistakes_name_the_column(frame, target, task, words):
    with pytest.raises(ValueError, match=words):
        fx.data.table(frame, target, task)


def test_files_that_are_no_tables(tmp_path):
    for name, content, words in (
        ("gone.csv", None, "there is no file"),
        ("text.txt", b"a,b", r"is no table: give a file that ends in .csv or .parquet"),
        ("broken.parquet", b"no parquet at all", "cannot be read"),
        ("ragged.csv", b"a,b\n1,2\n3\n", "cannot be read"),
    ):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(fx.data.DataError, match=words):
            fx.data.table(tmp_path / name, "a")
    with pytest.raises(TypeError, match="source must be a path"):
        fx.data.table(3, "a")


@pytest.mark.parametrize("column", ["a", "c"])
def test_an_infinite_value_is_told_with_its_column_and_row(column):
    frame = pd.DataFrame({name: np.arange(20.0) ** n for n, name in enumerate("abc", start=1)})
    frame.loc[6, column] = np.inf
    with pytest.raises(ValueError, match=rf"column '{column}' holds 1 infinite value, .* row 7;"):
        fx.data.table(frame, ["c"])


def test_many_texts_are_classes_only_with_a_warning():
    named = FRAME[COLUMNS].assign(town=[f"town {number}" for number in range(len(FRAME))])
    with pytest.warns(UserWarning, match="50 different texts, each of which is taken for a class"):
        assert fx.data.table(named, "town").classes == 50
    assert fx.data.table(named, "town", "classification").classes == 50


@pytest.mark.parametrize(("sign", "called"), [(";", "semicolons"), ("\t", "tabs")])
def test_other_separators_are_told(tmp_path, sign, called):
    path = tmp_path / "own.csv"
    FRAME[[*COLUMNS, "price"]].to_csv(path, index=False, sep=sign)
    with pytest.raises(fx.data.DataError, match=f"are parted by {called}"):
        fx.data.table(path, "price")
    data = fx.data.table(FRAME[[*COLUMNS, "price"]], "price")
    with pytest.raises(fx.data.DataError, match=f"are parted by {called}"):
        fx.data.read_inputs([str(path)], data)
