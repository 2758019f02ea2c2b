"""Tables: what is read from files, what becomes of columns, and models of tables in files."""

import gzip
import json
import pickle
import struct
import sys
import warnings

import numpy as np
import pandas
import polars
import pytest
from cases import refused, run_python

import fastmlp
from fastmlp import MLPClassifier, MLPRegressor
from fastmlp.tablefiles import CSVFile, column, nearly_numbers, open_table, write_csv, write_table
from fastmlp.tables import TableModel, choose_task, labels_like, labels_of, numbers_of, split_rows

pytestmark = pytest.mark.filterwarnings("ignore:Stochastic Optimizer")


@pytest.fixture
def write(tmp_path):
    """Writes a file and returns its path."""

    def write(content, name="data.csv"):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def table(m=240, seed=0):
    """Two columns of numbers, one with gaps, two of text, one with gaps."""
    r = np.random.default_rng(seed)
    size, age = r.normal(50, 10, m), r.integers(0, 90, m).astype(float)
    age[::7] = np.nan
    city = r.choice(["Oslo", "Bergen, west", 'the "old" town', ""], m).astype(object)
    return {"size": size, "age": age, "city": city, "colour": r.choice(["red", "blue"], m).astype(object)}


def classes(columns):
    return np.where((columns["size"] > 50) ^ (columns["colour"] == "red"), "yes", "no")


def same_columns(found, expected):
    """Names, dtypes and entries, a NaN being equal to another."""
    assert list(found) == list(expected)
    for name in found:
        np.testing.assert_array_equal(found[name], expected[name])
        assert (found[name].dtype == object) == (expected[name].dtype == object)


def fitted(kind=MLPClassifier, m=240, **settings):
    columns = table(m)
    y = classes(columns) if kind is MLPClassifier else 1e4 + 30 * columns["size"] + 200 * (columns["colour"] == "red")
    settings = {"hidden_layer_sizes": (16,), "random_state": 0, "max_iter": 60, "batch_size": 32, **settings}
    return TableModel(kind(**settings), "good").fit(columns, y), columns, y


# ---- CSV -----------------------------------------------------------------------------------------------------------


def test_csv(write):
    """Quotes, blank lines, missing entries, a mark of UTF-8, blanks around entries."""
    path = write('\ufeffa,"b, c",d\n1,"x, ""y""",NA\n\n 2.5 , z,-1e3\r\n,"two\nlines",nan\n')
    found = open_table(path).read()
    texts = np.array(['x, "y"', "z", "two\nlines"], object)
    expected = {"a": np.array([1, 2.5, np.nan]), "b, c": texts, "d": np.array([np.nan, -1000, np.nan])}
    same_columns(found, expected)


@pytest.mark.parametrize(
    ("content", "name", "delimiter"),
    [
        ("a;b\n1;x,y\n", "data.csv", None),
        ("a\tb\n1\tx,y\n", "data.csv", None),
        ("a\tb\n1\tx,y\n", "data.tsv", None),
        ("a|b\n1|x,y\n", "data.csv", "|"),
        ("a,b\n1,'x,y'\n".replace("'", '"'), "data.csv", None),
        ("a;b\n1;x,y\n".encode("utf-16"), "data.csv", None),
        (gzip.compress(b"a;b\n1;x,y\n"), "data.csv.gz", None),
    ],
)
def test_csv_delimiters_and_encodings(write, content, name, delimiter):
    same_columns(open_table(write(content, name), delimiter).read(), {"a": np.ones(1), "b": np.array(["x,y"], object)})


def test_csv_late_text(write, monkeypatch):
    """A column that turns out to be text in a later block keeps the spelling of the earlier ones."""
    monkeypatch.setattr("fastmlp.tablefiles.ENTRIES", 9)
    path = write("n,t,u\n" + "".join(f"{i},0{i},1_0\n" for i in range(7)) + "7,x,2\n")
    found = open_table(path).read()
    texts = np.array([*(f"0{i}" for i in range(7)), "x"], object)
    same_columns(found, {"n": np.arange(8.0), "t": texts, "u": np.array(["1_0"] * 7 + ["2"], object)})
    same_columns(open_table(path).read(text=["n"], names=["n"]), {"n": np.array([str(i) for i in range(8)], object)})


@pytest.mark.parametrize(
    ("content", "fragments"),
    [
        ("", ["is empty", "header"]),
        ("\n\n", ["is empty", "header"]),
        ("a,b\n1,2\n\n3\n", ["line 4", "1 entries for 2 columns"]),
        ('a,b\n1,"2\n3,4\n', ["line 3", "quote left open"]),
        ("a,b,a\n1,2,3\n", ["more than one column 'a'"]),
        ("1,2\n3,4\n", ["numbers only", "'1', '2'", "header"]),
        (b"a,b\n1,\xe9\n", ["not UTF-8", "0xe9"]),
    ],
)
def test_csv_errors(write, content, fragments):
    with refused("data.csv", *fragments):
        open_table(write(content)).read()


def test_files_that_are_no_tables(write, tmp_path):
    with pytest.raises(FileNotFoundError):
        open_table(tmp_path / "nothing.csv")
    with pytest.raises(IsADirectoryError):
        open_table(tmp_path)
    with refused("spreadsheet", "save it as CSV"):
        open_table(tmp_path / "data.xlsx")
    for name in ("data.npz", "data.parquet"):
        with refused(name):
            open_table(write("a,b\n1,2\n", name))
    with refused("not a sound gzip file"):
        open_table(write(gzip.compress(b"a,b\n" + b"1,2\n" * 999)[:-20], "data.csv.gz")).read()


def test_place_suggests(write):
    file = open_table(write("width,height,label\n1,2,x\n"))
    assert file.place("label", "--target") == "label"
    with refused("--target 'Lable'", "'width', 'height', 'label'", "did you mean 'label'?"):
        file.place("Lable", "--target")


def test_nearly_numbers(write):
    found = open_table(write("a,b,c\n1,1,x\n2,2,y\n?,3,4\n"), None).read()
    assert dict(nearly_numbers(found)) == {"a": ["?"]}


def test_without_pandas(write):
    """CSV needs neither pandas nor pyarrow; Parquet says how to get them."""
    path = write("a,b\n1,x\n2,y\n")
    program = (
        "import sys; sys.modules['pandas'] = sys.modules['pyarrow'] = None\n"
        "from fastmlp.tablefiles import open_table\n"
        f"print(open_table({str(path)!r}).read())\n"
        "try: open_table('data.parquet')\n"
        "except ValueError as error: print(error)\n"
    )
    shown = run_python("-c", program)
    assert "array([1., 2.])" in shown
    assert "data.parquet needs pandas and pyarrow: pip install 'fastmlp[parquet]'" in shown


# ---- npz, Parquet, frames ------------------------------------------------------------------------------------------


def test_npz(tmp_path):
    path, X = tmp_path / "data.npz", np.arange(6, dtype=np.uint8).reshape(3, 2)
    np.savez(path, label=np.array([2, 1, 2]), X=X, name=np.array(["a", "b", "c"]))
    file = open_table(path)
    assert file.names == ["x0", "x1", "label", "name"]
    found = file.read(text=["label"])
    expected = {"x0": X[:, 0], "x1": X[:, 1], "label": column(["2", "1", "2"]), "name": column(["a", "b", "c"])}
    same_columns(found, expected)
    assert found["x0"].base is found["x1"].base is not None  # X is not copied


@pytest.mark.parametrize(
    ("arrays", "fragments"),
    [
        ({"X": np.ones((3, 2)), "y": np.ones(2)}, ["different lengths", "'y' has 2"]),
        ({"Z": np.ones((3, 2))}, ["'Z' of shape (3, 2)"]),
        ({"X": np.ones((3, 2)), "x1": np.ones(3)}, ["'x1'", "name of a column"]),
        ({"y": np.array([{}, 1], object)}, ["Python objects"]),
        ({}, ["is empty"]),
    ],
)
def test_npz_errors(tmp_path, arrays, fragments):
    np.savez(tmp_path / "data.npz", **arrays)
    with refused("data.npz", *fragments):
        open_table(tmp_path / "data.npz")


def test_written_tables_are_read_again(tmp_path):
    columns = {**table(25), "file": np.arange(25), "third": np.full(25, 1 / 3, np.float32)}
    for name in ("data.csv", "data.npz", "data.parquet"):
        write_table(tmp_path / name, columns)
        found = open_table(tmp_path / name).read()
        assert [path.name for path in tmp_path.iterdir() if path.suffix == ".part"] == []
        np.testing.assert_array_equal(found["third"].astype(np.float32), columns["third"])
        same_columns({**found, "third": columns["third"]}, columns)


def test_write_csv(capsys):
    write_csv(sys.stdout, {'a "b"': np.array([0.1, 1e300]), "c": np.array(["x,y", ""]), "d": np.array([1, 2])})
    assert capsys.readouterr().out == '"a ""b""",c,d\n0.1,"x,y",1\n1e+300,,2\n'


def test_frames_and_dictionaries_are_tables():
    """pandas, polars, lists: the same predictions as from arrays, whatever the order, with other columns beside."""
    model, columns, _ = fitted()
    expected = model.predict_proba(columns)
    lists = {name: [None if v == "" or v != v else v for v in values] for name, values in reversed(columns.items())}
    frame = pandas.DataFrame(lists).assign(other=1)
    nullable = frame.convert_dtypes()
    for given in (lists, frame, nullable, frame.astype({"colour": "category"}), polars.DataFrame(lists)):
        np.testing.assert_array_equal(model.predict_proba(given), expected)


def test_columns_of_other_dtypes():
    dates = np.array(["2024-05-01", "NaT"], "datetime64[D]")
    assert column(dates).tolist() == ["2024-05-01", ""]
    assert column([True, None]).tolist() == ["True", ""]
    assert column(np.array([1.0, np.nan, 2.5]), as_text=True).tolist() == ["1", "", "2.5"]
    assert column(np.array([1, None], object)).dtype == np.float64
    with refused("one dimension"):
        column(np.ones((2, 2)))


@pytest.mark.parametrize(
    ("entries", "given"),
    [
        (["TRUE", "FALSE"], [True, False]),
        (["true", "False"], ["True", "FALSE"]),
        (["1.0", "2.0", "?"], [1.0, 2.0]),
        (["1", "2", "?"], [1.0, 2.0]),
        (["2.50", "-1.0", "1e-7", "?"], [2.5, -1, 1e-7]),
        (["2020-01-01", "2020-03-05"], np.array(["2020-01-01", "2020-03-05"], "datetime64[ns]")),
        (["2020-01-01 00:00", "2020-03-05 10:30"], pandas.to_datetime(["2020-01-01T00:00", "2020-03-05T10:30"])),
        (["2020-03-05T10:30:00.250", "?"], [np.datetime64("2020-03-05T10:30:00.25", "ms").item()]),
        (["a", "None", "n/a", "#N/A", "-nan"], ["a", "", None, np.nan, float("nan")]),
        (["01", "1_0", "1.2.3"], ["01", "1_0", "1.2.3"]),
    ],
)
def test_one_spelling_of_a_value(write, entries, given):
    """A category is the same in a CSV file as in a frame that has read, or parsed, it."""
    path = write("c,x\n" + "".join(f"{entry},{i}\n" for i in range(10) for entry in [*entries, "other"]))
    model = TableModel(MLPClassifier()).prepare(open_table(path).read())
    X = model.transform({"c": given, "x": np.zeros(len(given))})
    expected = model.transform({"c": np.array(entries[: len(given)], object), "x": np.zeros(len(given))})
    assert (X[:, 1:] == expected[:, 1:]).all() and (X[:, 1:].sum(axis=1) == 1).all()


def test_leading_zeros_are_names(write):
    path = write("c,x\n" + "".join(f"{entry},{i}\n" for i in range(9) for entry in ("01", "1", "1.0", "00.5", "b")))
    model = TableModel(MLPClassifier()).prepare(open_table(path).read())
    assert model.categories_["c"] == ["00.5", "01", "1", "b"]


def test_frame_of_the_same_file(write):
    """What pandas makes of a CSV file gets the same predictions, with labels spelled as they are in the file."""
    r = np.random.default_rng(0)
    flag, kind = r.choice(["TRUE", "FALSE"], 200), r.choice(["None", "some", "n/a"], 200)
    labels = np.where((flag == "TRUE") ^ (kind == "some"), "TRUE", "FALSE")
    rows = zip(flag, kind, r.normal(size=200).round(3), labels, strict=True)
    path = write("flag,kind,x,y\n" + "".join(f"{','.join(map(str, row))}\n" for row in rows))
    read = open_table(path).read()
    estimator = MLPClassifier((8,), batch_size=20, learning_rate_init=0.01, max_iter=100, random_state=0)
    model = TableModel(estimator, "y").fit(read, labels_of(read["y"]))
    frame = pandas.read_csv(path)
    assert frame["flag"].dtype == bool and (model.predict(frame) == labels).mean() > 0.95
    np.testing.assert_array_equal(model.transform(frame), model.transform(read))


def test_unseen_categories_are_warned_of():
    model, columns, _ = fitted(max_iter=1)
    few = np.where(np.arange(240) % 3, columns["colour"], "green")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.predict(columns | {"colour": few})
    many = np.where(np.arange(240) % 3, "green", columns["colour"])
    with pytest.warns(UserWarning, match="'colour': 67% of the entries are categories .* such as 'green'; .*'blue'"):
        model.predict(columns | {"colour": many})


def test_bytes_are_text(tmp_path):
    """As NumPy has text of C, and Parquet text of unknown encoding."""
    names = np.array([b"no", "\xe9t\xe9".encode(), b"\xe9"])
    np.savez(tmp_path / "data.npz", y=names)
    pandas.DataFrame({"y": names.tolist()}).to_parquet(tmp_path / "data.parquet")
    for name in ("data.npz", "data.parquet"):
        for text in ((), ("y",)):
            assert open_table(tmp_path / name).read(text=text)["y"].tolist() == ["no", "\xe9t\xe9", "\xe9"]


@pytest.mark.parametrize(("entry", "kind"), [([1, 2], "lists"), ({"a": 1}, "dicts")])
def test_columns_of_columns(tmp_path, entry, kind):
    pandas.DataFrame({"x": [1.0, 2.0], "pair": [entry, entry]}).to_parquet(tmp_path / "data.parquet")
    with refused("column 'pair'", f"holds {kind}"):
        open_table(tmp_path / "data.parquet").read()
    assert list(open_table(tmp_path / "data.parquet").read(names=["x"])) == ["x"]


# ---- targets -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "task"),
    [
        (["a", "b", "1"], "classification"),
        (["0", "1"] * 5, "classification"),
        (["0", "1.0"] * 5, "classification"),
        (["0", "0.0", "1", "1.0"], "classification"),
        (["01", "02"] * 5, "classification"),
        (["0.5", "1"] * 5, "regression"),
        ([str(i) for i in range(15)], "regression"),
        ([str(i % 20) for i in range(40)], "classification"),
        ([str(i % 21) for i in range(420)], "regression"),
    ],
)
def test_choose_task(texts, task):
    assert choose_task(np.array(texts, object))[0] == task


def test_labels_are_integers_or_keep_their_spelling():
    assert labels_of(np.array(["3", "-1"], object)).dtype == np.int64
    assert labels_of(np.array(["03", "1"], object)).tolist() == ["03", "1"]
    assert labels_of(np.array(["1.0", "2", "1", "-0.0"], object)).tolist() == [1, 2, 1, 0]
    assert labels_of(np.array(["1.0", "2", "x"], object)).tolist() == ["1.0", "2", "x"]
    like = labels_like(np.array(["True", "FALSE", "1", "1.0", "x"], object), np.array(["1.0", "FALSE", "TRUE"]))
    assert like.tolist() == ["TRUE", "FALSE", "1.0", "1.0", "x"]
    assert labels_like(np.array(["1.0", "2", "x"], object), np.array([1, 2])).tolist() == [1, 2, 3]
    with refused("'x'", "not a number"):
        numbers_of(np.array(["1", "x"], object), "t")


def test_split_rows():
    y = np.array([0] * 30 + [1] * 20 + [2])
    train, test = split_rows(y, 0.2, 0, stratify=True)
    assert sorted([*train, *test]) == list(range(51)) and 2 in y[train]
    assert np.bincount(y[test]).tolist() == [6, 4]
    train, test = split_rows(np.arange(5), 0.2, 0, stratify=True)  # no class has two rows
    assert sorted(train) == list(range(5)) and len(test) == 0


# ---- models --------------------------------------------------------------------------------------------------------


def test_inputs_by_hand():
    """Median, scale, categories: what the network is given, against plain NumPy."""
    columns = {"a": np.array([1.0, np.nan, 3, 8]), "b": np.array(["x", "", "y", "x"], object)}
    X = TableModel(MLPClassifier()).prepare(columns).transform(columns)
    a = np.array([1.0, 3, 3, 8])
    expected = np.column_stack([(a - a.mean()) / a.std(), [0, 1, 0, 0], [1, 0, 0, 1], [0, 0, 1, 0]])
    assert X.dtype == np.float32 and np.abs(X - expected).max() < 1e-6


def test_columns_that_are_left_out():
    m = 40
    columns = {
        "id": np.arange(m),
        "year": np.arange(1980, 1980 + m),
        "same": np.full(m, 3.0),
        "text": np.full(m, "NO", object),
        "none": np.full(m, np.nan),
        "blank": np.full(m, "", object),
        "name": np.array([f"n{i}" for i in range(m)], object),
        "answer": np.array(["yes", ""] * (m // 2), object),
        "t": np.zeros(m),
    }
    model = TableModel(MLPClassifier(), "t").prepare(columns)
    assert model.numbers_ == ["year"] and model.categories_ == {"answer": ["", "yes"]}
    assert len(model.notes_) == 6 and "'id'" in model.notes_[0] and "has no values" in model.notes_[3]
    with refused("no column to predict 't' from", "'same' is left out"):
        TableModel(MLPClassifier(), "t").prepare({name: columns[name] for name in ("same", "name", "t")})


def test_many_categories_make_a_sparse_matrix():
    """The 100 most frequent are told apart; the rest, and unknown ones, are rows of zeros."""
    r = np.random.default_rng(0)
    texts = np.array([f"c{i}" for i in np.concatenate([np.repeat(np.arange(120), 3), r.integers(0, 99, 40)])], object)
    model = TableModel(MLPClassifier()).prepare({"c": texts})
    assert model.n_features_ == 100 and "120 categories" in model.notes_[0]
    X = model.transform({"c": ["c0", "c99", "never seen", None]})
    assert X.format == "csr" and X.dtype == np.float32 and X.sum(axis=1).ravel().tolist() == [[1.0, 0, 0, 0]]


def test_regression_is_in_the_targets_unit():
    model, columns, y = fitted(MLPRegressor, max_iter=200)
    predicted = model.predict(columns)
    assert predicted.dtype == np.float64
    assert np.abs(predicted - y).mean() < 0.1 * y.std() and abs(predicted.mean() - y.mean()) < 0.1 * y.std()
    with refused("probabilities of classes only"):
        model.predict_proba(columns)


def test_unknown_categories_and_gaps_are_predicted():
    model, _, _ = fitted()
    strange = {"size": [None, 1e6], "age": [np.nan, 3], "city": ["Rome", ""], "colour": ["green", "red"]}
    assert set(model.predict(strange)) <= {"yes", "no"}
    assert np.isfinite(model.predict_proba(strange)).all()
    assert model.predict({name: [] for name in strange}).shape == (0,)


@pytest.mark.parametrize(
    ("change", "fragments"),
    [
        ({"size": None}, ["lacks 1 column", "'size'"]),
        ({"size": None, "age": None}, ["lacks 2 column", "'size', 'age'"]),
        ({"size": None, "Size": [1.0, 2.0]}, ["did you mean 'Size'?"]),
        ({"size": ["1", "tall"]}, ["column 'size', row 2: 'tall' is not a number"]),
        ({"size": [np.inf, 1]}, ["column 'size', row 1: inf"]),
        ({"size": [1.0]}, ["different lengths"]),
    ],
)
def test_tables_that_do_not_fit(change, fragments):
    model, columns, _ = fitted(max_iter=1)
    given = {name: values[:2] for name, values in columns.items()} | change
    with refused(*fragments):
        model.predict({name: values for name, values in given.items() if values is not None})


def test_targets_that_cannot_be_learned():
    columns = table(20)
    with refused("'t' has one value only, 'x'"):
        TableModel(MLPClassifier(), "t").fit(columns, ["x"] * 20)
    with refused("column 'size'", "too large"):
        TableModel(MLPClassifier(), "t").prepare({"size": np.array([1e300, -1e300, 1.0])})


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_same_bits_after_load(kind, tmp_path, monkeypatch):
    """Predictions, settings and columns survive; nothing is pickled; other rows come out the same as well."""
    model, columns, _ = fitted(kind)
    path = tmp_path / "model.fastmlp"
    with monkeypatch.context() as without:
        for name in ("dump", "dumps", "load", "loads", "Pickler", "Unpickler"):
            without.setattr(pickle, name, None)
        fastmlp.save(model, path)
        loaded = fastmlp.load(path)
    assert (loaded.numbers_, loaded.categories_, loaded.target) == (model.numbers_, model.categories_, "good")
    for given in (columns, table(500, seed=9)):
        assert loaded.predict(given).tobytes() == model.predict(given).tobytes()
        assert loaded.transform(given).tobytes() == model.transform(given).tobytes()
    packed, repacked = fastmlp.persistence.pack(model), fastmlp.persistence.pack(loaded)
    assert json.dumps(packed[:2]) == json.dumps(repacked[:2])
    assert {name: array.tobytes() for name, array in packed[2].items()} == {
        name: array.tobytes() for name, array in repacked[2].items()
    }
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    values = json.loads(header.pop("__metadata__")["values"])
    assert values["numbers"] == ["size", "age"] and {entry["dtype"] for entry in header.values()} <= {"F32", "F64"}
    assert b"sklearn" not in content


def test_classes_after_load(tmp_path):
    for y in (np.arange(240) % 3, np.array(["a", "b", "c"])[np.arange(240) % 3]):
        model = TableModel(MLPClassifier((4,), max_iter=2, random_state=0)).fit(table(), y)
        fastmlp.save(model, tmp_path / "model.fastmlp")
        found = fastmlp.load(tmp_path / "model.fastmlp").predict(table())
        assert found.dtype == y.dtype and (found == model.predict(table())).all()


def test_sparse_model_after_load(tmp_path):
    r = np.random.default_rng(0)
    columns = {"a": r.normal(size=400), "c": np.array([f"c{i}" for i in r.integers(0, 40, 400)], object)}
    model = TableModel(MLPClassifier((8,), max_iter=5, random_state=0)).fit(columns, r.integers(0, 2, 400))
    assert model.sparse
    fastmlp.save(model, tmp_path / "model.fastmlp")
    found = fastmlp.load(tmp_path / "model.fastmlp").predict_proba(columns)
    assert found.tobytes() == model.predict_proba(columns).tobytes()


def test_files_with_other_contents_are_refused(tmp_path):
    model, _, _ = fitted(max_iter=1)
    values, arrays = model.pack()
    path = tmp_path / "model.fastmlp"
    wrong = [
        ({**values, "numbers": ["size"]}, arrays, "columns of numbers"),
        ({**values, "categories": values["categories"][:1]}, arrays, "inputs"),
        ({**values, "estimator": {**values["estimator"], "kind": "Network"}}, arrays, "'Network'"),
        ({name: values[name] for name in values if name != "target"}, arrays, "target"),
        (values, {name: arrays[name] for name in arrays if name != "medians"}, "medians"),
    ]
    for changed, kept, fragment in wrong:
        fastmlp.persistence.write(path, "TableModel", changed, kept)
        with refused("cannot be loaded", fragment):
            fastmlp.load(path)


def test_blocks_do_not_matter(monkeypatch):
    model, columns, _ = fitted()
    expected = model.transform(columns)
    monkeypatch.setattr("fastmlp.tables.BLOCK", 7)
    assert model.transform(columns).tobytes() == expected.tobytes()


def test_csv_is_read_in_blocks(write, monkeypatch):
    path = write("a,b\n" + "".join(f"{i},{'xyz'[i % 3]}\n" for i in range(100)))
    expected = CSVFile(path).read()
    monkeypatch.setattr("fastmlp.tablefiles.ENTRIES", 14)
    same_columns(CSVFile(path).read(), expected)


@pytest.mark.parametrize("y", [5, [0, 1, 0], [[0], [1]]])
def test_a_target_of_another_length_is_refused(y):
    with refused("y has shape", "(2,) is allowed"):
        TableModel(fastmlp.MLPClassifier()).fit({"a": [1.0, 2.0]}, y)
