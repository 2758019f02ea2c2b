"""What the commands do and print: train on a table, predict, tell what is known. `cli.py` has their arguments."""

import argparse
import os
import re
import shlex
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numba
import numpy as np

import fastmlp
import fastmlp.demo
from fastmlp import baselines, devices, persistence, tablefiles, tables
from fastmlp.cpu import compiling
from fastmlp.tablefiles import Table, TableFile, quoted
from fastmlp.tables import TableModel

BASELINE_ROWS = 20_000  # that baselines are fitted on at most
BASELINE_TEST_ROWS = 10_000
STOPPING_ROWS = 300  # to train on, below which none are set aside: the loss on so few tells too little
TABLE_ENDING = re.compile(r"(\.(csv|tsv|txt|parquet|pq|npz))?(\.gz)?$", re.IGNORECASE)
PATIENCE = 20  # epochs without a better loss on them


def _one_line(message: object) -> str:
    return " ".join(str(message).split())


def warn(message: object, *_: Any, **__: Any) -> None:
    """Show a warning as one line."""
    print(f"fastmlp: warning: {_one_line(message)}", file=sys.stderr)


def counted(number: int, thing: str) -> str:
    """So many things: 1 row, 2 rows."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


# ---- train ---------------------------------------------------------------------------------------------------------


def train(args: argparse.Namespace) -> None:
    """Read, split, prepare, train, score, compare, save."""
    say = _silent if args.quiet else print
    out = _model_path(args)
    devices.resolve(args.device, args.precision)
    file = tablefiles.open_table(args.data, args.delimiter)
    for name in args.drop:
        file.place(name, "--drop")
    target = _target(file, args)
    names = [name for name in file.names if name not in args.drop]
    table, texts, notes = _read_with_target(file, target, names, [])
    task, reason = (args.task, "as --task says") if args.task else tables.choose_task(texts)
    y = tables.numbers_of(texts, target) if task == "regression" else _classes(texts, target)
    last = "" if args.target else ", the last column"
    say(f"{file.label}: {counted(len(y), 'row')}; {task} of {target!r}{last} ({reason})")

    test: tuple[Table, np.ndarray] | None = None
    if args.test is None and args.test_fraction > 0:
        train_rows, test_rows = tables.split_rows(y, args.test_fraction, args.seed, task == "classification")
        test = tablefiles.take(table, test_rows), y[test_rows]
        table, y = tablefiles.take(table, train_rows), y[train_rows]
    if len(y) < 2:
        raise ValueError(f"{file.label} has {counted(len(y), 'row')} to train on; two are needed")
    model = tables.TableModel(_estimator(args, task, y), target).prepare(table)
    for note in notes + model.notes_:
        say(f"  note: {note}")
    X = model.transform(table)
    del table
    if args.test is not None:
        test = _read_test(args, model, y, say)
    held_out = None
    if test is not None and len(test[1]):
        held_out = _transform(model, test[0], args.test or file.label), test[1]

    _describe_plan(model, y, 0 if held_out is None else len(held_out[1]), say)
    seconds, interrupted = _fit(model, X, y, args, say)
    if interrupted:
        raise KeyboardInterrupt(_keep_unfinished(model, out, args))
    _describe_training(model.estimator, seconds, say)
    verb = "replaced" if out.exists() else "wrote"
    fastmlp.save(model, out)
    try:
        if held_out is not None and not args.quiet:
            _score(model, (X, y), held_out, seconds, args)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"the model is in {out}") from None
    say(f"\n{verb} {out} ({_size(out)}); predict with\n  fastmlp predict {shlex.quote(str(out))} NEW.csv")


def _target(file: TableFile, args: argparse.Namespace) -> str:
    """--target, or the last column that is not dropped."""
    if args.target is None:
        return next((name for name in reversed(file.names) if name not in args.drop), file.names[-1])
    if args.target in args.drop:
        raise ValueError(f"--target and --drop both have {args.target!r}")
    return file.place(args.target, "--target")


def _transform(model: TableModel, table: Table, label: str) -> Any:
    try:
        return model.transform(table)
    except ValueError as error:
        raise ValueError(f"{label}: {error}") from None


def _silent(*_: Any, **__: Any) -> None:
    pass


def _model_path(args: argparse.Namespace) -> Path:
    """Where the model goes; refused before the training if it could not be written there."""
    if args.out is None:
        name = "model" if args.data == "-" else TABLE_ENDING.sub("", Path(args.data).name) or "model"
        path = Path(f"{name}.fastmlp")
    else:
        path = Path(args.out)
    if path.is_dir():
        raise ValueError(f"--out {path} is a folder; a file is needed")
    if not path.parent.is_dir():
        raise ValueError(f"--out {path}: there is no folder {str(path.parent)!r}")
    if not os.access(path.parent, os.W_OK):
        raise ValueError(f"--out {path}: the folder cannot be written to")
    if args.checkpoint is not None and os.path.realpath(args.checkpoint) == os.path.realpath(path):
        raise ValueError(f"--out and --checkpoint are both {path}")
    if path.exists():
        try:
            kind = persistence.read(path)[0]
        except ValueError:
            kind = None
        if kind is None or kind.endswith(" checkpoint"):
            raise ValueError(f"--out {path} is there and is not a model; delete it, or choose another name")
    return path


def _read_with_target(
    file: TableFile, target: str, names: Sequence[str], text: Sequence[str]
) -> tuple[Table, np.ndarray, list[str]]:
    """The columns of these names, and the target as text, of the rows that have one; and what is to be told."""
    table = file.read(text=[target, *text], names=[target, *names])
    texts = table.pop(target)
    if len(texts) == 0:
        raise ValueError(f"{file.label} has a header but no rows")
    rows = np.flatnonzero(texts != "")
    if len(rows) == 0:
        raise ValueError(f"the target {target!r} has no values in {file.label}")
    notes = [
        f"column {name!r} is taken as categories, not numbers, for it has {quoted(others, 3)}"
        for name, others in tablefiles.nearly_numbers(table)
        if name not in text
    ]
    if len(rows) < len(texts):
        notes.insert(0, f"{len(texts) - len(rows)} of {len(texts)} rows of {file.label} are left out: no {target!r}")
        table, texts = tablefiles.take(table, rows), texts[rows]
    return table, texts, notes


def _classes(texts: np.ndarray, target: str) -> np.ndarray:
    distinct = len(set(texts.tolist()))
    if distinct > tables.MOST_CLASSES and 2 * distinct > len(texts):
        raise ValueError(
            f"the target {target!r} has {distinct} classes in {len(texts)} rows, too many to learn; is it the right "
            "column, and are its numbers written as such?"
        )
    if distinct < 2:
        raise ValueError(f"the target {target!r} is {texts[0]!r} in every row; two classes are needed")
    return tables.labels_of(texts)


def _read_test(args: argparse.Namespace, model: TableModel, y: np.ndarray, say: Any) -> tuple[Table, np.ndarray]:
    """The table of --test and its target."""
    file = tablefiles.open_table(args.test, args.delimiter)
    file.place(model.target, "the target")
    categories = list(model.categories_)
    table, texts, notes = _read_with_target(file, model.target, [*model.numbers_, *categories], categories)
    for note in notes:
        say(f"  note: {note}")
    if model.regression:
        return table, tables.numbers_of(texts, model.target)
    classes = np.unique(y)
    y_test = tables.labels_like(texts, classes)
    unknown = np.count_nonzero(~np.isin(y_test, classes))
    if unknown:
        rows = counted(int(unknown), "row")
        say(f"  note: {rows} of {file.label} with classes that training has not; they count as wrong")
    return table, y_test


def _estimator(args: argparse.Namespace, task: str, y: np.ndarray) -> Any:
    from fastmlp import MLPClassifier, MLPRegressor

    early_stopping = not args.no_early_stopping and len(y) >= STOPPING_ROWS
    if task == "classification":
        early_stopping = early_stopping and np.unique(y, return_counts=True)[1].min() >= 2
    settings = {
        "hidden_layer_sizes": tuple(args.hidden),
        "activation": args.activation,
        "dropout": args.dropout,
        "max_iter": args.epochs,
        "batch_size": min(args.batch_size or min(200, max(32, len(y) // 20)), len(y)),
        "learning_rate_init": args.learning_rate,
        "early_stopping": early_stopping,
        "n_iter_no_change": PATIENCE if early_stopping else 10,
        "random_state": args.seed,
        "device": args.device,
        "precision": args.precision,
    }
    settings |= {} if args.alpha is None else {"alpha": args.alpha}
    settings |= {} if args.l2 is None else {"l2": args.l2}
    return (MLPClassifier if task == "classification" else MLPRegressor)(**settings)


def _describe_plan(model: TableModel, y: np.ndarray, test_rows: int, say: Any) -> None:
    counted = []
    if model.numbers_:
        counted.append(f"{len(model.numbers_)} of numbers")
    if model.categories_:
        units = sum(map(len, model.categories_.values()))
        counted.append(f"{len(model.categories_)} of categories ({units} units)")
    say(f"  columns: {', '.join(counted)}")
    if not model.regression:
        classes = [str(label) for label in np.unique(y)]
        shown = ", ".join(classes[:10]) + (", ..." if len(classes) > 10 else "")
        say(f"  classes: {len(classes)} ({shown})")
    n_out = 1 if model.regression or len(np.unique(y)) == 2 else len(np.unique(y))
    sizes = [model.n_features_, *model.estimator.hidden_layer_sizes, n_out]
    stopping = ", of which a tenth tells when to stop" if model.estimator.early_stopping else ""
    say(f"  network: {'-'.join(map(str, sizes))}, {model.estimator.activation}")
    say(f"  rows:    {len(y)} to train on{stopping}; {test_rows} held out for the score")
    sys.stdout.flush()


def _log_likelihood(estimator: Any, X: Any, y: np.ndarray) -> float:
    """Score to stop by: on few rows it tells more than the accuracy, which rises in steps.

    scikit-learn's neg_log_loss refuses rows that lack a class.
    """
    h = estimator.predict_proba(X)
    right = h[np.arange(len(y)), np.searchsorted(estimator.classes_, y)]
    return float(np.log(np.maximum(right, np.finfo(h.dtype).tiny)).mean())


def _fit(model: TableModel, X: Any, y: np.ndarray, args: argparse.Namespace, say: Any) -> tuple[float, bool]:
    """Train; returns the seconds it took, and whether Ctrl-C, which the estimators take as an early end, ended it."""
    from sklearn.exceptions import ConvergenceWarning

    folder = compiling.cache_folder()
    if folder is None or not any(folder.iterdir()):
        say("  compiling the kernels, some seconds; later runs find them ready", flush=True)
    fastmlp.warmup(("float32",))
    parameters = {} if args.checkpoint is None else {"checkpoint": args.checkpoint}
    if args.checkpoint is not None:
        _say_what_is_resumed(args.checkpoint, say)
    estimator = model.estimator
    estimator.verbose = int(not args.quiet and sys.stderr.isatty())
    estimator.scoring = _log_likelihood if estimator.early_stopping and not model.regression else None
    interrupted = False

    def hear(message: object, category: type[Warning], *_: Any, **__: Any) -> None:
        nonlocal interrupted
        if "interrupted by user" in str(message):
            interrupted = True
        elif not issubclass(category, ConvergenceWarning):  # which _describe_training says better
            warn(message)

    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = hear
        model.fit_prepared(X, y, **parameters)
    seconds = time.perf_counter() - start
    estimator.verbose, estimator.scoring = False, None  # a file does not hold functions
    return seconds, interrupted


def _keep_unfinished(model: TableModel, out: Path, args: argparse.Namespace) -> str:
    """Save what an interrupted training has come to; returns what is to be said of it."""
    kept = "no model was written"
    if model.estimator.n_iter_ > 0:
        fastmlp.save(model, out)
        kept = f"the model as it is after {counted(model.estimator.n_iter_, 'epoch')} is in {out}"
    return f"{kept}; the same command goes on from {args.checkpoint}" if args.checkpoint else kept


def _say_what_is_resumed(path: str, say: Any) -> None:
    """Say which epoch a checkpoint goes on from; what is wrong with it, fit says."""
    try:
        epochs = int(persistence.read(path)[1]["fitted"]["n_iter_"])
    except (OSError, ValueError, KeyError, TypeError):
        return
    if epochs > 0:
        say(f"  going on from {path}, epoch {epochs}", flush=True)


def _describe_training(estimator: Any, seconds: float, say: Any) -> None:
    measure = "loss on the rows set aside" if estimator.early_stopping else "loss"
    done = f"\ntrained {counted(estimator.n_iter_, 'epoch')} in {seconds:.2f} s"
    if estimator._no_improvement_count > estimator.n_iter_no_change:
        kept = "; the weights with the best one are kept" if estimator.early_stopping else ""
        say(f"{done}, until the {measure} got no better{kept}")
    elif estimator._no_improvement_count == 0:
        say(f"{done}; the {measure} was still getting better, so more --epochs may help")
    else:
        say(f"{done}; all {estimator.max_iter} epochs were used")


def _score(
    model: TableModel,
    training: tuple[Any, np.ndarray],
    test: tuple[Any, np.ndarray],
    fit_seconds: float,
    args: argparse.Namespace,
) -> None:
    """Say how well the rows held out were predicted, and the baselines beside it."""
    (X, y), (X_test, y_test) = training, test
    predicted = model.predict_prepared(X_test)
    print(f"held-out rows: {_score_text(model, y_test, predicted, _simplest(model, y))}", flush=True)
    if args.no_baselines:
        return
    rng = np.random.default_rng(args.seed)
    rows = _sample(y, BASELINE_ROWS, rng, model.regression)
    test_rows = np.sort(rng.permutation(len(y_test))[:BASELINE_TEST_ROWS])
    if model.regression:
        y, y_test = model.scaled(y), model.scaled(y_test)
    held_out = X_test[test_rows], y_test[test_rows]
    print(f"\n{baselines.compare_fitted(model.estimator, fit_seconds, X[rows], y[rows], held_out, args.seed)}")
    if len(rows) < len(y) or len(test_rows) < len(y_test):
        print(
            f"(baselines are fitted on {len(rows)} of {len(y)} rows; "
            f"all are scored here on {len(test_rows)} of {len(y_test)})"
        )


def _sample(y: np.ndarray, most: int, rng: np.random.Generator, regression: bool) -> np.ndarray:
    """So many rows at most, among them one of each class: a linear model needs two."""
    order = rng.permutation(len(y))
    if not regression:
        first = np.unique(y[order], return_index=True)[1]
        order = np.concatenate([order[first], np.delete(order, first)])
    return np.sort(order[:most])


def _simplest(model: TableModel, y: np.ndarray) -> Any:
    """What one would predict without looking at any feature: the most frequent class, or the mean."""
    if model.regression:
        return float(y.mean())
    classes, counts = np.unique(y, return_counts=True)
    return classes[counts.argmax()]


def _score_text(model: TableModel, y: np.ndarray, predicted: np.ndarray, simplest: Any = None) -> str:
    """The score in words, with the one that `simplest` for all rows would get beside it."""
    from sklearn.metrics import mean_absolute_error, r2_score

    if not model.regression:
        right = np.count_nonzero(y == predicted)
        text = f"accuracy {right / len(y):.4f} ({right} of {len(y)} right)"
        beside = "" if simplest is None else f"; always {str(simplest)!r}: {np.mean(y == simplest):.4f}"
        return text + beside
    value, error = r2_score(y, predicted) if len(y) > 1 else np.nan, mean_absolute_error(y, predicted)
    beside = ""
    if simplest is not None:
        beside = f"; always the mean: {mean_absolute_error(y, np.full(len(y), simplest)):.4g}"
    return f"R^2 {value:.4f}, mean absolute error of {model.target!r} {error:.4g}{beside}"


def _size(path: Path) -> str:
    size = path.stat().st_size
    return f"{size / 1e3:.1f} kB" if size < 1e6 else f"{size / 1e6:.1f} MB"


# ---- predict -------------------------------------------------------------------------------------------------------


def predict(args: argparse.Namespace) -> None:
    """Read model and table, predict, write; score where the target is there."""
    open(args.model, "rb").close()  # for its error, which names the file
    model = fastmlp.load(args.model)
    if not isinstance(model, tables.TableModel):
        raise ValueError(f"{args.model} has a {type(model).__name__}, not a model that train has written")
    if args.proba and model.regression:
        raise ValueError(f"--proba: {model.target!r} is a number; there are probabilities of classes only")
    if args.out is not None:
        for path in (args.model, args.table):
            if os.path.exists(args.out) and os.path.exists(path) and os.path.samefile(args.out, path):
                raise ValueError(f"--out {args.out} would replace what is read")
        if not Path(args.out).parent.is_dir():
            raise ValueError(f"--out {args.out}: there is no folder {str(Path(args.out).parent)!r}")
        if Path(args.out).suffix.lower() in tablefiles.PARQUET:
            tablefiles.import_pandas(args.out)  # before the work is done
    file = tablefiles.open_table(args.table, args.delimiter)
    wanted = [*model.numbers_, *model.categories_]
    lacking = [name for name in wanted if name not in file.names]
    if lacking:
        hint = tablefiles.did_you_mean(lacking[0], file.names) if len(lacking) == 1 else ""
        raise ValueError(f"{file.label} lacks {len(lacking)} column(s) of the model: {quoted(lacking)}{hint}")
    table = file.read(text=[*model.categories_, model.target], names=[*wanted, model.target])
    texts = table.pop(model.target, None)
    X = _transform(model, table, file.label)
    predicted = model.predict_prepared(X)
    result = {model.target: predicted}
    if args.proba:
        h = model.estimator.predict_proba(X) if len(predicted) else X[:, :0].repeat(0)
        result = {str(label): h[:, place] if len(h) else h for place, label in enumerate(model.classes_)}
    if args.out is None:
        tablefiles.write_csv(sys.stdout, result)
        sys.stdout.flush()
    else:
        tablefiles.write_table(args.out, result)
    if texts is not None:
        _score_known(model, texts, predicted)


def _score_known(model: TableModel, texts: np.ndarray, predicted: np.ndarray) -> None:
    """Say on standard error how the rows whose target is known were predicted."""
    known = np.flatnonzero(texts != "")
    if len(known) == 0:
        return
    try:
        y = tables.numbers_of(texts[known], model.target) if model.regression else None
    except ValueError as error:
        print(f"no score: {error}", file=sys.stderr)
        return
    if y is None:
        y = tables.labels_like(texts[known], model.classes_)
    print(f"score on {counted(len(known), 'row')}: {_score_text(model, y, predicted[known])}", file=sys.stderr)


# ---- info and demo -------------------------------------------------------------------------------------------------


def info(args: argparse.Namespace) -> None:
    """Print what is known of the machine, or of a file."""
    if args.model is None:
        fastmlp.show_versions()
    else:
        _describe_file(args.model)


def _describe_file(path: str) -> None:
    open(path, "rb").close()  # for its error, which names the file
    kind = persistence.read(path)[0]
    print(f"{path}: {kind}, {_size(Path(path))}")
    if kind.endswith(" checkpoint"):
        print("  a training's state, to go on from: train --checkpoint, or checkpoint= in Python")
        return
    model = fastmlp.load(path)
    if kind == "TableModel":
        print(f"  target      {model.target!r}, {'a number' if model.regression else 'classes'}")
        for title, names in (("numbers", model.numbers_), ("categories", list(model.categories_))):
            if names:
                print(f"  {title:11} {len(names)}: {quoted(names, 12)}")
        model = model.estimator
    if kind == "Network":
        facts = (model.sizes, model.activation, model.output, model.dtype, model._epochs)
    else:
        if not hasattr(model, "coefs_"):
            print("  not fitted")
            return
        facts = (model._sizes(), model.activation, model.out_activation_, model.coefs_[0].dtype, model.n_iter_)
    sizes, activation, output, dtype, epochs = facts
    if getattr(model, "classes_", None) is not None:
        labels = [str(label) for label in model.classes_]
        print(f"  classes     {len(labels)}: {', '.join(labels[:12])}{', ...' if len(labels) > 12 else ''}")
    count = sum(n_in * n_out + n_out for n_in, n_out in zip(sizes, sizes[1:]))
    print(f"  layers      {'-'.join(map(str, sizes))}, {activation}, {output}: {count:,} weights and biases, {dtype}")
    rounded = "" if model.precision == "float32" else f" in {model.precision}"
    print(f"  trained     {counted(epochs, 'epoch')}{rounded}")


def demo(args: argparse.Namespace) -> None:
    """Train, score, compare, draw."""
    fastmlp.demo.demo(args.epochs, args.hidden, args.seed, args.plot, numba.get_num_threads())
