"""The command line: what it prints, writes and returns, and the line that says why it cannot."""

import csv
import gzip
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pandas
import pytest
from cases import run_python
from sklearn.datasets import load_iris

import fastmlp
from fastmlp.cli import main

FLOWERS = ["sepal length", "sepal width", "petal length", "petal width"]


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    """Runs a command in an empty folder; returns exit code, output and errors."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as exit:
            code = exit.code
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


@pytest.fixture
def good(run):
    """Runs a command that must succeed; returns its output."""

    def good(*arguments):
        code, out, err = run(*arguments)
        assert code == 0, err
        return out

    return good


@pytest.fixture
def bad(run):
    """Runs a command that must fail with one line, in which every fragment is found; returns the line."""

    def bad(code, *arguments, fragments=()):
        found, out, err = run(*arguments)
        assert found == code, (found, out, err)
        assert err.startswith("fastmlp: error: ") and err.count("\n") == 1, err
        missing = [fragment for fragment in fragments if fragment not in err]
        assert not missing, f"{missing} not in {err!r}"
        return err

    return bad


def write_csv(path, header, rows, delimiter=","):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows([header, *rows])
    return path


def flowers(path="flowers.csv", **settings):
    data = load_iris()
    rows = [[*x, data.target_names[y]] for x, y in zip(data.data.tolist(), data.target, strict=True)]
    return write_csv(path, [*FLOWERS, "species"], rows, **settings)


def houses(path="houses.csv", m=400, seed=0):
    """Prices in thousands, by size, town and year; some entries are missing."""
    r = np.random.default_rng(seed)
    size, town, year = r.uniform(30, 200, m), r.choice(["Oslo", "Bergen, west"], m), r.integers(1900, 2020, m)
    price = 1e5 + 3e3 * size + 2e5 * (town == "Oslo") + r.normal(0, 5e3, m)
    town, year = np.where(np.arange(m) % 11, town, ""), np.where(np.arange(m) % 7, year.astype(str), "NA")
    cost = [f"{price[i]:.0f}" if i % 40 else "" for i in range(m)]
    rows = zip(range(m), size.round(1), town, year, cost, strict=True)
    return write_csv(path, ["id", "size", "town", "year", "price"], rows, delimiter=";")


def columns_of(text):
    """CSV as a dictionary of lists of text."""
    header, *rows = csv.reader(text.splitlines())
    return {name: list(entries) for name, entries in zip(header, zip(*rows), strict=True)}


# ---- train and predict ---------------------------------------------------------------------------------------------


def test_train_predict_classes(good, run, tmp_path):
    """From a table to scores, a file, and predictions, which Python makes as well."""
    flowers()
    shown = good("train", "flowers.csv", "--target", "species", "--hidden", 32, 16, "--seed", 3)
    assert "150 rows; classification of 'species'" in shown and "4-32-16-3" in shown
    assert "120 to train on; 30 held out" in shown
    accuracy, right = re.search(r"accuracy (\d\.\d{4}) \((\d+) of 30 right\); always '\w+': 0\.3333", shown).groups()
    assert float(accuracy) > 0.8 and float(accuracy) == round(int(right) / 30, 4)
    for name in ("multilayer network", "randomized features", "nearest neighbours", "linear model"):
        assert float(re.search(rf"{name} +(\d\.\d+)", shown)[1]) > 0.8
    assert re.search(r"most frequent class +0\.3333", shown)
    assert "wrote flowers.fastmlp" in shown and shown.endswith("fastmlp predict flowers.fastmlp NEW.csv\n")

    code, out, err = run("predict", "flowers.fastmlp", "flowers.csv")
    frame, model = pandas.read_csv("flowers.csv"), fastmlp.load("flowers.fastmlp")
    expected = model.predict(frame)
    assert code == 0 and columns_of(out) == {"species": list(expected)}
    count = int((expected == frame["species"]).sum())
    assert err == f"score on 150 rows: accuracy {count / 150:.4f} ({count} of 150 right)\n"

    found = columns_of(good("predict", "flowers.fastmlp", "flowers.csv", "--proba"))
    assert list(found) == ["setosa", "versicolor", "virginica"]
    found = np.array([[np.float32(p) for p in entries] for entries in found.values()]).T
    assert found.tobytes() == model.predict_proba(frame).tobytes()


def test_train_predict_numbers(good, run):
    """A regression in the target's unit; gaps, categories, a semicolon, an identifier, --test, --drop."""
    houses()
    houses("later.csv", 100, seed=1)
    shown = good("train", "houses.csv", "--test", "later.csv", "--epochs", 400, "--no-early-stopping", "--drop", "year")
    assert "390 rows; regression of 'price', the last column" in shown
    assert "10 of 400 rows of houses.csv are left out: no 'price'" in shown
    assert "'id' is left out" in shown and "1 of numbers, 1 of categories (3 units)" in shown
    assert "390 to train on; 97 held out" in shown
    found = re.search(r"R\^2 (\S+), mean absolute error of 'price' (\S+); always the mean: (\S+)", shown).groups()
    r_squared, error, of_mean = map(float, found)
    assert r_squared > 0.9 and 1e3 < error < 0.4 * of_mean
    assert re.search(r"test R\^2 +spread", shown) and re.search(r"mean of the target +-0\.0", shown)
    assert float(re.search(r"multilayer network +(\S+)", shown)[1]) == pytest.approx(r_squared, abs=1e-4)

    code, out, err = run("predict", "houses.fastmlp", "later.csv")
    frame = pandas.read_csv("later.csv", sep=";")
    expected = fastmlp.load("houses.fastmlp").predict(frame)
    assert code == 0 and [float(value) for value in columns_of(out)["price"]] == expected.tolist()
    known = frame["price"].notna()
    distance = np.abs(expected - frame["price"])[known].mean()
    assert f"score on 97 rows: R^2 {r_squared:.4f}, mean absolute error of 'price' {distance:.4g}" in err


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
def test_other_files(good, suffix):
    """npz and Parquet, in and out; classes stay integers."""
    r = np.random.default_rng(0)
    X = r.normal(size=(60, 3))
    label = (X[:, 0] > 0).astype(np.int32) + 4
    if suffix == "npz":
        np.savez("data.npz", X=X.astype(np.float32), label=label)
    else:
        pandas.DataFrame(X, columns=["a", "b", "c"]).assign(label=label).to_parquet("data.parquet")
    shown = good("train", f"data.{suffix}", "--target", "label", "--epochs", 30, "--hidden", "--no-baselines")
    assert "classes: 2 (4, 5)" in shown and "network: 3-1" in shown and "nearest" not in shown
    good("predict", "data.fastmlp", f"data.{suffix}", "--out", f"out.{suffix}")
    good("predict", "data.fastmlp", f"data.{suffix}", "--out", f"proba.{suffix}", "--proba")
    read = np.load if suffix == "npz" else pandas.read_parquet
    out, proba = read(f"out.{suffix}"), read(f"proba.{suffix}")
    model = fastmlp.load("data.fastmlp")
    columns = {f"x{j}": X[:, j].astype(np.float32) for j in range(3)}
    columns = columns if suffix == "npz" else dict(zip("abc", X.T, strict=True))
    assert out["label"].dtype.kind == "i" and list(out["label"]) == model.predict(columns).tolist()
    np.testing.assert_array_equal(np.column_stack([proba["4"], proba["5"]]), model.predict_proba(columns))


def test_npz_of_names_for_zip_members(good):
    write_csv("t.csv", ["a", "file"], [[i, "x/y" if i > 10 else "b"] for i in range(20)])
    good("train", "t.csv", "--quiet", "--epochs", 2)
    good("predict", "t.fastmlp", "t.csv", "--out", "t.npz")
    good("predict", "t.fastmlp", "t.csv", "--out", "p.npz", "--proba")
    assert len(np.load("t.npz")["file"]) == 20 and np.load("p.npz").files == ["b", "x/y"]


def test_same_numbers_whatever_the_threads(good):
    """The seed decides; --threads, --quiet and the way to say epochs do not."""
    flowers()
    good("train", "flowers.csv", "--out", "a.fastmlp", "--epochs", 5, "--no-baselines")
    assert good("train", "flowers.csv", "--out", "b.fastmlp", "--max-iter", 5, "--quiet", "--threads", 1) == ""
    good("train", "flowers.csv", "--out", "c.fastmlp", "--epochs", 5, "--quiet", "--seed", 1)
    a, b, c = (good("predict", f"{name}.fastmlp", "flowers.csv", "--proba") for name in "abc")
    assert a == b != c


def test_settings_reach_the_estimator(good):
    flowers()
    options = "--hidden 8 4 --activation tanh --dropout 0.1 --l2 0.01 --epochs 3 --batch-size 7 --learning-rate 0.01"
    good("train", "flowers.csv", *options.split(), "--test-fraction", 0, "--quiet", "--device", "auto")
    found = fastmlp.load("flowers.fastmlp").estimator.get_params()
    expected = {
        "hidden_layer_sizes": (8, 4), "activation": "tanh", "dropout": 0.1, "l2": 0.01, "max_iter": 3, "batch_size": 7,
        "learning_rate_init": 0.01, "random_state": 0, "device": "auto", "early_stopping": False, "verbose": False,
    }  # fmt: skip
    assert {name: found[name] for name in expected} == expected
    good("train", "flowers.csv", "--alpha", 0.5, "--epochs", 1, "--quiet")
    found = fastmlp.load("flowers.fastmlp").estimator
    assert found.alpha == 0.5 and len(found.coefs_) == 2 and found.coefs_[0].shape == (4, 100)


def test_early_stopping(good):
    houses()
    shown = good("train", "houses.csv", "--no-baselines", "--epochs", 5)
    assert "312 to train on, of which a tenth tells when to stop; 78 held out" in shown
    assert fastmlp.load("houses.fastmlp").estimator.early_stopping
    shown = good("train", "houses.csv", "--no-baselines", "--epochs", 5, "--no-early-stopping")
    assert "312 to train on; 78 held out" in shown and "trained 5 epochs" in shown and "more --epochs may help" in shown
    assert "replaced houses.fastmlp" in shown


def test_stopping_by_the_likelihood(good):
    """Rows are set aside of more classes than are among them; the weights of the best epoch stand."""
    r = np.random.default_rng(0)
    x = np.concatenate([r.normal(size=400), [9, 9.1]])
    labels = ["ab"[int(v > 0)] for v in x[:400]] + ["rare"] * 2
    write_csv("t.csv", ["x", "y"], zip(x, labels, strict=True))
    shown = good("train", "t.csv", "--learning-rate", 0.1, "--no-baselines")
    assert "until the loss on the rows set aside got no better; the weights with the best one are kept" in shown
    estimator = fastmlp.load("t.fastmlp").estimator
    assert estimator.best_validation_score_ == max(estimator.validation_scores_) < 0
    assert estimator.scoring is None and estimator.n_iter_ > 20


def test_checkpoint_is_passed_on(good, monkeypatch):
    flowers()
    given = []
    fit = fastmlp.MLPClassifier.fit

    def note(self, X, y, **parameters):
        given.append(parameters)
        return fit(self, X, y)

    monkeypatch.setattr(fastmlp.MLPClassifier, "fit", note)
    good("train", "flowers.csv", "--epochs", 1, "--quiet", "--checkpoint", "c.checkpoint")
    good("train", "flowers.csv", "--epochs", 1, "--quiet")
    assert given == [{"checkpoint": "c.checkpoint"}, {}]


def test_going_on_from_a_checkpoint(good):
    """It is said, for an old file may be there that one has forgotten."""
    flowers()
    command = ("train", "flowers.csv", "--checkpoint", "c", "--no-baselines", "--epochs")
    shown = good(*command, 3)
    assert "going on" not in shown and "trained 3 epochs" in shown
    shown = good(*command, 5)
    assert "going on from c, epoch 3\n" in shown and "trained 5 epochs" in shown
    assert good(*command, 6, "--quiet") == ""


@pytest.mark.parametrize(("count", "words"), [(0, "so more --epochs may help"), (1, "; all 4 epochs were used")])
def test_what_is_said_of_all_epochs(good, monkeypatch, count, words):
    """More epochs are advised only where the last one was better."""
    flowers()
    fit = fastmlp.MLPClassifier.fit

    def trained(self, *data):
        fit(self, *data)
        self._no_improvement_count = count

    monkeypatch.setattr(fastmlp.MLPClassifier, "fit", trained)
    shown = good("train", "flowers.csv", "--epochs", 4, "--no-baselines")
    assert words in shown and ("may help" in shown) == (count == 0)


def test_one_of_a_kind(good, run):
    flowers()
    shown = good("train", "flowers.csv", "--epochs", 1, "--no-baselines")
    assert "trained 1 epoch in" in shown and "trained     1 epoch\n" in good("info", "flowers.fastmlp")
    write_csv("one.csv", [*FLOWERS, "species"], [[1, 2, 3, 4, "setosa"]])
    assert "score on 1 row: " in run("predict", "flowers.fastmlp", "one.csv")[2]


def test_notes(good):
    rows = [[i, f"n{i}", 7, i % 5 if i != 30 else "?", f"c{i % 3}", i % 2] for i in range(60)]
    write_csv("t.csv", ["x", "name", "same", "slip", "c", "y"], rows)
    shown = good("train", "t.csv", "--epochs", 1, "--no-baselines")
    assert "column 'slip' is taken as categories, not numbers, for it has '?'" in shown
    assert "column 'name' is left out" in shown and "column 'same' is left out: it has one value only, 7" in shown
    assert "2 whole numbers" in shown and "2 (0, 1)" in shown
    shown = good("train", "t.csv", "--epochs", 1, "--no-baselines", "--task", "regression")
    assert "regression of 'y', the last column (as --task says)" in shown


def test_baselines_of_many_rows_are_bounded(good, monkeypatch):
    flowers()
    monkeypatch.setattr("fastmlp.commands.BASELINE_ROWS", 50)
    monkeypatch.setattr("fastmlp.commands.BASELINE_TEST_ROWS", 20)
    shown = good("train", "flowers.csv", "--epochs", 2)
    assert "baselines are fitted on 50 of 120 rows; all are scored here on 20 of 30" in shown


@pytest.mark.parametrize("labels", [["0.0", "1.0"], ["0", "1.0"], ["0.0", "0", "1", "1.0"]])
def test_whole_numbers_however_spelled(good, run, labels):
    """A table with 1 for 1.0 is scored as any other."""
    write_csv("t.csv", ["x", "y"], [[i % 4, labels[i % len(labels)]] for i in range(200)])
    assert "classes: 2 (0, 1)" in good("train", "t.csv", "--epochs", 1)
    write_csv("new.csv", ["x", "y"], [[i % 4, int(float(labels[i % len(labels)]))] for i in range(200)])
    scores = [run("predict", "t.fastmlp", name)[2] for name in ("t.csv", "new.csv")]
    assert scores[0] == scores[1] and scores[0].startswith("score on 200 rows: ") and "0.0000" not in scores[0]


def test_baselines_see_every_class(good, monkeypatch):
    """Also one so rare that a sample would miss it; a linear model cannot be fitted to one class."""
    monkeypatch.setattr("fastmlp.commands.BASELINE_ROWS", 5)
    write_csv("t.csv", ["x", "y"], [[i, "rare" if i in (100, 200) else "often"] for i in range(400)])
    shown = good("train", "t.csv", "--epochs", 1)
    assert re.search(r"linear model +\d", shown) and "note: no score" not in shown


def test_a_baseline_that_fails(good, monkeypatch):
    """It is a note: the model is trained by then."""
    from sklearn.neighbors import KNeighborsClassifier

    def fail(*_):
        raise ValueError("too\nnear")

    monkeypatch.setattr(KNeighborsClassifier, "fit", fail)
    flowers()
    shown = good("train", "flowers.csv", "--epochs", 1)
    assert "note: no score of nearest neighbours: too near\n" in shown and re.search(r"linear model +\d", shown)
    assert "wrote flowers.fastmlp" in shown


def test_other_rows_at_prediction(good, run):
    """Categories never seen, gaps, more columns, classes never seen; ids written with zeros stay text."""
    write_csv("t.csv", ["zip", "x", "y"], [[f"0{i % 4}x"[: 3 - i % 2], i % 8, "ab"[i % 2]] for i in range(40)])
    good("train", "t.csv", "--quiet", "--epochs", 5)
    write_csv("new.csv", ["more", "x", "zip", "y"], [["m", 3, "01", "a"], ["m", "", "99", "c"], ["m", 1, "", ""]])
    code, out, err = run("predict", "t.fastmlp", "new.csv")
    model = fastmlp.load("t.fastmlp")
    expected = model.predict({"x": [3, None, 1], "zip": ["01", "99", ""]})
    assert code == 0 and columns_of(out)["y"] == list(expected)
    assert err.startswith("score on 2 rows: ")
    write_csv("header.csv", ["zip", "x"], [])
    assert run("predict", "t.fastmlp", "header.csv") == (0, "y\n", "")
    assert run("predict", "t.fastmlp", "header.csv", "--proba") == (0, "a,b\n", "")


def test_progress_only_on_a_terminal(run, monkeypatch):
    flowers()
    assert run("train", "flowers.csv", "--epochs", 2, "--no-baselines")[2] == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert "2/2" in run("train", "flowers.csv", "--epochs", 2, "--no-baselines")[2]
    assert run("train", "flowers.csv", "--epochs", 2, "--quiet")[2] == ""


@pytest.mark.parametrize(
    ("data", "model"),
    [("sales.2024.csv", "sales.2024"), ("sales.2025.TSV.gz", "sales.2025"), ("v1.2", "v1.2"), (".csv", "model")],
)
def test_the_models_name(good, data, model):
    """It is the table's, all of it but the ending that says what kind of file it is."""
    flowers(data)
    if data.endswith(".gz"):
        pathlib.Path(data).write_bytes(gzip.compress(pathlib.Path(data).read_bytes()))
    good("train", data, "--epochs", 1, "--quiet")
    assert pathlib.Path(f"{model}.fastmlp").exists()


# ---- errors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        ("", ["COMMAND", "fastmlp --help"]),
        ("fly", ["'fly'"]),
        ("train", ["DATA", "fastmlp train --help"]),
        ("train t.csv --hidden 0", ["--hidden", "'0' is not a positive integer"]),
        ("train t.csv --dropout 1", ["--dropout", "'1'"]),
        ("train t.csv --learning-rate x", ["--learning-rate", "'x' is not a positive number"]),
        ("train t.csv --alpha -1", ["--alpha"]),
        ("train t.csv --alpha 1 --l2 1", ["--l2", "not allowed with"]),
        ("train t.csv --test-fraction 1", ["--test-fraction", "'1'"]),
        ("train t.csv --test-fraction 0.1 --test t.csv", ["not allowed with"]),
        ("train t.csv --seed -1", ["--seed"]),
        ("train t.csv --task guess", ["--task", "'guess'"]),
        ("train t.csv --delimiter ab", ["--delimiter", "'ab'"]),
        ("train t.csv --hid 3", ["--hid"]),
        ("predict m.fastmlp", ["TABLE"]),
        ("demo --plot a.txt", ["--plot", ".png"]),
    ],
)
def test_wrong_arguments(bad, arguments, fragments):
    bad(2, *arguments.split(), fragments=fragments)


@pytest.mark.parametrize(
    ("content", "arguments", "fragments"),
    [
        (None, "", ["t.csv: No such file"]),
        ("", "", ["t.csv is empty"]),
        ("a,y\n", "", ["a header but no rows"]),
        ("a,y\n1,2\n3\n", "", ["t.csv, line 3", "1 entries for 2 columns"]),
        ("a,y\n1,2\n", "--target z", ["--target 'z'", "'a', 'y'"]),
        ("age,y\n1,2\n", "--target Aeg", ["did you mean 'age'?"]),
        ("a,y\n1,2\n", "--drop b", ["--drop 'b'"]),
        ("a,y\n1,2\n", "--drop y --target y", ["--target and --drop"]),
        ("a,y\n1,\n2,NA\n", "", ["'y' has no values"]),
        ("a,y\n1,x\n2,x\n", "", ["'y' is 'x' in every row"]),
        ("a,y\n1,2.5\n2,2.5\n3,2.5\n", "", ["one value only"]),
        ("a,y\n" + "1,x\n2,z\n" * 9, "--drop a", ["no column to predict 'y' from"]),
        ("a,y\n" + "".join(f"{i},c{i}\n" for i in range(30)), "", ["30 classes in 30 rows"]),
        ("a,y\n" + "1,x\n2,z\n" * 9, "--task regression", ["'x', which is not a number"]),
        ("a,y\n" + "1,x\n2,z\n" * 9, "--threads 10000", ["--threads 10000"]),
        ("a,y\n" + "1,x\n2,z\n" * 9, "--out no/where.fastmlp", ["no folder 'no'"]),
        ("a,y\n" + "1,x\n2,z\n" * 9, "--out t.csv", ["t.csv is there and is not a model"]),
        ("a,y\n" + "1,x\n2,z\n" * 9, "--out c --checkpoint c", ["--out and --checkpoint"]),
        ("a,y\n" + "inf,x\n2,z\n" * 9, "", ["'a', row", "inf"]),
    ],
)
def test_data_that_cannot_be_learned(bad, content, arguments, fragments):
    if content is not None:
        pathlib.Path("t.csv").write_text(content)
    bad(1, "train", "t.csv", *arguments.split(), fragments=fragments)
    assert not pathlib.Path("t.fastmlp").exists()


def test_predictions_that_cannot_be_made(bad, good):
    flowers()
    houses()
    good("train", "flowers.csv", "--epochs", 1, "--quiet")
    good("train", "houses.csv", "--epochs", 1, "--quiet")
    bad(1, "predict", "no.fastmlp", "flowers.csv", fragments=["no.fastmlp: No such file"])
    bad(1, "predict", "flowers.fastmlp", "no.csv", fragments=["no.csv: No such file"])
    bad(1, "predict", "flowers.csv", "flowers.csv", fragments=["flowers.csv is damaged, or was not written by fastmlp"])
    bad(1, "predict", "flowers.fastmlp", "houses.csv", fragments=["houses.csv lacks 4 column(s)", *FLOWERS])
    bad(1, "predict", "houses.fastmlp", "houses.csv", "--proba", fragments=["'price' is a number"])
    for out in ("flowers.csv", "flowers.fastmlp"):
        bad(1, "predict", "flowers.fastmlp", "flowers.csv", "--out", out, fragments=["would replace what is read"])
    bad(1, "predict", "flowers.fastmlp", "flowers.csv", "--out", "no/a.csv", fragments=["no folder 'no'"])
    text = pathlib.Path("flowers.csv").read_text().replace("5.1,3.5", "5.1,tall")
    pathlib.Path("wrong.csv").write_text(text)
    bad(1, "predict", "flowers.fastmlp", "wrong.csv", fragments=["wrong.csv: column 'sepal width', row 1: 'tall'"])
    fastmlp.save(fastmlp.Network([2, 1]), "net.fastmlp")
    bad(1, "predict", "net.fastmlp", "flowers.csv", fragments=["net.fastmlp has a Network"])
    whole = pathlib.Path("flowers.fastmlp").read_bytes()
    pathlib.Path("flowers.fastmlp").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    bad(1, "predict", "flowers.fastmlp", "flowers.csv", fragments=["flowers.fastmlp is damaged"])


@pytest.mark.parametrize("table", [flowers, houses])
def test_divergence(bad, table):
    """Weights beyond all numbers are an error, and no model."""
    path = table("t.csv")
    options = ("--learning-rate", "1e30", "--no-baselines", "--quiet")
    for more in ((), ("--no-early-stopping",)):
        bad(1, "train", path, *options, *more, fragments=["non-finite parameter weights"])
    assert not pathlib.Path("t.fastmlp").exists()


def test_a_gpu_that_is_not_there(bad, monkeypatch):
    monkeypatch.setattr("fastmlp.devices.cuda_problem", lambda: fastmlp.devices.Problem("there is none", False))
    flowers()
    bad(1, "train", "flowers.csv", "--device", "cuda", fragments=["there is none"])


@pytest.mark.parametrize("error", [MemoryError(), FloatingPointError("a\nb"), OSError(28, "No space left", "f")])
def test_errors_from_below(bad, error, monkeypatch):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("fastmlp.tablefiles.CSVFile.read", fail)
    flowers()
    line = bad(1, "train", "flowers.csv")
    assert any(text in line for text in ("not enough memory", "a b", "f: No space left"))


@pytest.mark.parametrize("epochs", [0, 1, 3])
def test_ctrl_c(run, monkeypatch, epochs):
    """The estimators take it as an early end, with a warning; what there is of a model is kept."""
    flowers()
    fit = fastmlp.MLPClassifier.fit

    def interrupted(self, *data, **parameters):
        fit(self, *data)
        self.n_iter_ = epochs
        warnings.warn("Training interrupted by user.", stacklevel=2)

    monkeypatch.setattr(fastmlp.MLPClassifier, "fit", interrupted)
    code, out, err = run("train", "flowers.csv", "--epochs", 3, "--checkpoint", "c")
    kept = "no model was written"
    if epochs:
        kept = f"the model as it is after {epochs} epoch{'s' if epochs > 1 else ''} is in flowers.fastmlp"
    assert (code, err) == (130, f"fastmlp: interrupted; {kept}; the same command goes on from c\n")
    assert pathlib.Path("flowers.fastmlp").exists() == (epochs > 0) and "accuracy" not in out


def test_ctrl_c_while_baselines_are_fitted(run, monkeypatch):
    """The model, which is trained by then, is kept."""
    flowers()

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("fastmlp.baselines.compare_baselines", interrupted)
    code, _, err = run("train", "flowers.csv", "--epochs", 1)
    assert (code, err) == (130, "fastmlp: interrupted; the model is in flowers.fastmlp\n")
    assert run("predict", "flowers.fastmlp", "flowers.csv")[0] == 0


def test_warnings_are_one_line(run, monkeypatch):
    flowers()
    fit = fastmlp.MLPClassifier.fit

    def warn(self, *data, **parameters):
        warnings.warn("the disk\nis full", RuntimeWarning, stacklevel=2)
        return fit(self, *data)

    monkeypatch.setattr(fastmlp.MLPClassifier, "fit", warn)
    code, _, err = run("train", "flowers.csv", "--epochs", 1, "--quiet")
    assert (code, err) == (0, "fastmlp: warning: the disk is full\n")


# ---- the process ---------------------------------------------------------------------------------------------------


def process(*arguments, **settings):
    """A process of `python -m fastmlp`, as a user starts it: it hears Ctrl-C, wherever the tests were started."""
    path = os.pathsep.join([str(pathlib.Path(fastmlp.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "fastmlp", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": path.rstrip(os.pathsep)}
    settings |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    if os.name == "posix":  # what is started in the background ignores SIGINT, and so do its children
        settings["preexec_fn"] = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(command, env=environment, **settings)


def test_pipes(good):
    """CSV from standard input; a reader that goes away early is no error."""
    rows = [[i, "ab"[i % 2]] for i in range(20000)]
    write_csv("t.csv", ["x", "y"], rows)
    write_csv("s.csv", ["x", "y"], rows[:100])
    good("train", "s.csv", "--epochs", 1, "--quiet")
    with open("t.csv", "rb") as file, process("predict", "s.fastmlp", "-", stdin=file) as child:
        assert child.stdout.readline() == b"y\n"
        child.stdout.close()
        assert child.stderr.read() == b"" and child.wait() == 0


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_named_pipe(good, tmp_path):
    """It can be read once only, as those that a shell makes of <(...)."""
    flowers()
    good("train", "flowers.csv", "--epochs", 1, "--quiet")
    os.mkfifo("pipe")
    with subprocess.Popen(["sh", "-c", "cat flowers.csv > pipe"]) as writer:
        found = good("predict", "flowers.fastmlp", "pipe")
        assert writer.wait() == 0
    assert found == good("predict", "flowers.fastmlp", "flowers.csv")


def test_interrupted_process(run, tmp_path):
    """Ctrl-C at any moment is one line and exit code 130."""
    os.mkfifo("never.csv")
    with process("train", "never.csv", cwd=tmp_path) as child, open("never.csv", "wb"):  # it waits for the data
        child.send_signal(signal.SIGINT)
        assert child.wait() == 130
        assert child.stderr.read() == b"fastmlp: interrupted\n"


def test_interrupted_training(run, tmp_path):
    """Ctrl-C while it trains keeps the model as it is, and the same command goes on from the checkpoint."""
    r = np.random.default_rng(0)
    columns = [*(f"x{j}" for j in range(8)), "y"]
    write_csv("t.csv", columns, [[*r.normal(size=8).round(3), r.choice(["a", "b"])] for _ in range(4000)])
    arguments = "train t.csv --hidden 1000 1000 --no-early-stopping --no-baselines --checkpoint c --epochs".split()
    with process(*arguments, 10**6, cwd=tmp_path) as child:
        try:
            deadline = time.monotonic() + 300  # to compile the kernels
            while not pathlib.Path("c").exists() and child.poll() is None and time.monotonic() < deadline:
                time.sleep(0.01)
            child.send_signal(signal.SIGINT)
            _, err = child.communicate(timeout=300)
        finally:
            child.kill()
    assert child.returncode == 130, err
    epochs = fastmlp.load("t.fastmlp").estimator.n_iter_
    assert re.match(rf"fastmlp: interrupted; the model as it is after {epochs} epochs? is in t\.fastmlp;", err.decode())
    assert err.count(b"\n") == 1 and epochs >= 1 and run("predict", "t.fastmlp", "t.csv")[0] == 0


def test_error_without_a_traceback(tmp_path):
    with process("train", "no.csv", cwd=tmp_path) as child:
        assert child.wait() == 1
        assert child.stderr.read() == b"fastmlp: error: no.csv: No such file or directory\n"


# ---- info, help, demo ----------------------------------------------------------------------------------------------


def test_info(good):
    shown = good("info")
    words = ("CPU ", "vector instructions", "threads ", "threading layer ", "GPU", "kernels in", fastmlp.__version__)
    assert all(word in shown for word in (*words, "onnx ", "onnxruntime "))
    assert "none yet" not in shown


def test_info_of_a_file(good, bad):
    flowers()
    good("train", "flowers.csv", "--epochs", 3, "--quiet", "--hidden", 8, 5)
    shown = good("info", "flowers.fastmlp")
    texts = ("TableModel", "'species', classes", "setosa, versic", "4-8-5-3, relu, softmax: 103 weights", "3 epochs")
    assert all(text in shown for text in texts)
    net = fastmlp.Network([2, 3, 1])
    net.train(np.ones((4, 2)), np.ones(4), optimizer=fastmlp.SGD(0.1), epochs=2)
    fastmlp.save(net, "net.fastmlp")
    assert "2-3-1, logistic, logistic: 13 weights and biases, float32" in good("info", "net.fastmlp")
    fastmlp.save(fastmlp.MLPRegressor(), "new.fastmlp")
    assert "MLPRegressor" in good("info", "new.fastmlp") and "not fitted" in good("info", "new.fastmlp")
    fastmlp.persistence.write("c.fastmlp", "MLPClassifier checkpoint", {}, {})
    assert "to go on from" in good("info", "c.fastmlp")
    bad(1, "info", "flowers.csv", fragments=["flowers.csv is damaged, or was not written by fastmlp"])
    bad(1, "info", "no.fastmlp", fragments=["no.fastmlp: No such file"])


def test_help_and_version(good):
    assert good("--version") == f"fastmlp {fastmlp.__version__}\n"
    assert "exit codes: 0 done" in good("--help") and "train" in good("--help") and "demo" in good("--help")
    assert "each met twice on average" in " ".join(good("train", "--help").split())
    for command in ("train", "predict", "info", "demo"):
        shown = good(command, "--help")
        assert f"  fastmlp {command}" in shown and "examples:" in shown and "exit codes" in shown


def test_commands_do_not_need_their_arguments():
    """Commands know nothing of the parser above them."""
    program = "import sys, fastmlp.commands; print('fastmlp.cli' in sys.modules)"
    assert run_python("-c", program) == "False\n"


def test_starting_is_light():
    """Help and wrong arguments wait for neither scikit-learn nor pandas."""
    program = (
        "import sys; from fastmlp.cli import build_parser; build_parser().parse_args(['train', 'a.csv']);"
        "print([name for name in ('sklearn', 'pandas', 'scipy.optimize', 'matplotlib') if name in sys.modules])"
    )
    assert run_python("-c", program) == "[]\n"


def test_demo():
    """Accuracy, seconds, examples/s and GFLOP/s, then the three baselines of the lecture beside the network."""
    shown = run_python("-m", "fastmlp", "demo", "--epochs", "3").lower()
    baselines = (r"random\w* features", "nearest neighbo", "linear")
    for words in ("accuracy", r"seconds|\d s\b", "examples/s", "gflop/s", *baselines):
        assert re.search(words, shown), (words, shown)
