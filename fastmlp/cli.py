"""The command line, `fastmlp` or `python -m fastmlp`: train on a table, predict, look around, a demo.

Arguments are parsed before anything heavy is imported. An error is one line on standard error. The exit code is

    0    it is done
    1    it could not be done: a file that is not there or not good, data that cannot be learned from
    2    wrong arguments
    130  Ctrl-C: nothing was written

Results go to standard output; progress, warnings and errors to standard error.
"""

import argparse
import contextlib
import math
import os
import shlex
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    import numpy as np

    from fastmlp.baselines import Score
    from fastmlp.tables import Table, TableFile, TableModel

__all__ = ["main"]

PICTURES = (".pdf", ".png", ".svg")
BASELINE_ROWS = 20_000  # that baselines are fitted on at most
BASELINE_TEST_ROWS = 10_000
BASELINE_ITERATIONS = 200
STOPPING_ROWS = 100  # to train on, below which none are set aside for early stopping
CLOSING = """\
exit codes: 0 done, 1 it could not be done, 2 wrong arguments, 130 Ctrl-C"""


# ---- arguments -----------------------------------------------------------------------------------------------------


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, without the usage before it."""

    def __init__(self, **settings: Any):
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"fastmlp: error: {message} (see {self.prog} --help)\n")


def positive(text: str) -> int:
    """Argument type: an integer of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive integer")
    return int(text)


def seed(text: str) -> int:
    """Argument type: a seed within the range that NumPy and scikit-learn share."""
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer from 0 to 2**32 - 1")
    return int(text)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def rate(text: str) -> float:
    """Argument type: a positive number."""
    if not 0 < _number(text) < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return float(text)


def penalty(text: str) -> float:
    """Argument type: a number of at least 0."""
    if not 0 <= _number(text) < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number >= 0")
    return float(text)


def fraction(text: str) -> float:
    """Argument type: a number from 0 on, below 1."""
    if not 0 <= _number(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to below 1")
    return float(text)


def delimiter(text: str) -> str:
    """Argument type: one character, or a name of the tab."""
    text = {"tab": "\t", "\\t": "\t"}.get(text, text)
    if len(text) != 1 or text in '"\r\n':
        raise argparse.ArgumentTypeError(f"{text!r} is not one character, nor 'tab'")
    return text


def picture(text: str) -> Path:
    """Argument type: a picture file that can be written."""
    path = Path(text)
    if path.suffix.lower() not in PICTURES:
        raise argparse.ArgumentTypeError(f"{text!r} does not end in {', '.join(PICTURES)}")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {str(path.parent)!r}")
    return path


def build_parser() -> Parser:
    """The parser of every command."""
    import fastmlp

    parser = Parser(
        prog="fastmlp",
        description="Multilayer networks for tables, trained at the chip's limit.",
        epilog="examples:\n"
        "  fastmlp train flowers.csv --target species     train, score, save flowers.fastmlp\n"
        "  fastmlp predict flowers.fastmlp new.csv        predictions, as CSV\n"
        "  fastmlp info                                   this machine: CPU, threads, GPU, versions\n"
        "  fastmlp demo                                   handwritten digits, in seconds\n\n"
        "fastmlp COMMAND --help says more.\n" + CLOSING,
    )
    parser.add_argument("--version", action="version", version=f"fastmlp {fastmlp.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_train(commands)
    _add_predict(commands)
    _add_info(commands)
    _add_demo(commands)
    return parser


def _add_command(commands: Any, name: str, text: str, more: str = "", examples: str = "") -> Any:
    description = f"{text[0].upper()}{text[1:]}.{more}"
    return commands.add_parser(name, help=text, description=description, epilog=f"examples:\n{examples}\n{CLOSING}")


def _add_train(commands: Any) -> None:
    train = _add_command(
        commands,
        "train",
        "train a network on a table, score it and save it",
        """ DATA is CSV with a header (.csv, .tsv,
.csv.gz, - for standard input), Parquet (.parquet, with pandas) or NumPy's .npz: one-dimensional
arrays, each a column, and a two-dimensional X, whose columns are x0, x1, ...

Columns of numbers are scaled, columns of text encoded as categories; empty entries, NA and nan
are missing. Rows without a target are left out.""",
        "  fastmlp train flowers.csv --target species\n"
        "  fastmlp train flowers.csv --target species --hidden 128 64 --dropout 0.2 --out big.fastmlp\n"
        "  fastmlp train houses.parquet --target price --test houses-2025.parquet --epochs 500\n"
        "  fastmlp train long.csv --checkpoint long.checkpoint     the same command goes on after a crash\n",
    )
    add = train.add_argument_group("data").add_argument
    add("data", metavar="DATA", help="the table to train on")
    add("--target", metavar="COLUMN", help="the column to predict (default: the last one)")
    add("--drop", metavar="COLUMN", nargs="+", default=[], help="columns that are not used")
    text = "classes or numbers (default: classes where the target has text, or at most 20 whole numbers)"
    add("--task", choices=["classification", "regression"], help=text)
    held_out = train.add_mutually_exclusive_group()
    text = "the part of the rows held out for the score; 0 for no score (default: 0.2)"
    held_out.add_argument("--test-fraction", type=fraction, default=0.2, metavar="F", help=text)
    held_out.add_argument("--test", metavar="FILE", help="a table to score on, in place of rows held out")
    add("--delimiter", type=delimiter, metavar="C", help="what parts columns of CSV (default: , ; or tab, as found)")
    add("--seed", type=seed, default=0, metavar="S", help="of split, start and order (default: 0)")

    add = train.add_argument_group("network").add_argument
    text = "widths of the hidden layers, after DATA; none for a linear model (default: 100)"
    add("--hidden", type=positive, nargs="*", default=[100], metavar="WIDTH", help=text)
    names = ["identity", "logistic", "tanh", "relu", "softplus"]
    add("--activation", choices=names, default="relu", help="of the hidden layers (default: relu)")
    add("--dropout", type=fraction, default=0.0, metavar="P", help="hidden units each update leaves out (default: 0)")
    weights = train.add_mutually_exclusive_group()
    text = "weight penalty, divided by the rows of a minibatch (default: 0.0001)"
    weights.add_argument("--alpha", type=penalty, metavar="A", help=text)
    weights.add_argument("--l2", type=penalty, metavar="L", help="weight penalty, not divided")

    add = train.add_argument_group("training").add_argument
    text = "passes over the data at most (default: 200)"
    add("--epochs", "--max-iter", type=positive, default=200, metavar="N", help=text)
    add("--batch-size", type=positive, metavar="B", help="rows of a minibatch (default: 200, or all of fewer)")
    add("--learning-rate", type=rate, default=0.001, metavar="R", help="of Adam (default: 0.001)")
    text = "train on all rows until the loss on them falls no more, not until the score on some set aside does not rise"
    add("--no-early-stopping", action="store_true", help=text)
    text = "write the training's state here, and go on from it if it is there"
    add("--checkpoint", metavar="FILE", help=text)
    add("--threads", type=positive, metavar="K", help="threads to train with (default: all cores)")
    add("--device", choices=["cpu", "cuda", "auto"], default="cpu", help="what to train on (default: cpu)")

    add = train.add_argument_group("results").add_argument
    text = "the model's file; a model that is there is replaced (default: DATA's name, ending in .fastmlp, here)"
    add("--out", metavar="FILE", help=text)
    add("--no-baselines", action="store_true", help="do not compare with simpler models")
    add("--quiet", action="store_true", help="print nothing but warnings and errors")
    train.set_defaults(run=train_command)


def _add_predict(commands: Any) -> None:
    predict = _add_command(
        commands,
        "predict",
        "predict the rows of a table with a model that train has saved",
        """ Columns
are found by their names; others may be there. Where the target is among them, the score goes to
standard error.""",
        "  fastmlp predict flowers.fastmlp new.csv > predicted.csv\n"
        "  fastmlp predict flowers.fastmlp new.csv --proba --out probabilities.parquet\n"
        "  zcat new.csv.gz | fastmlp predict flowers.fastmlp - | head\n",
    )
    predict.add_argument("model", metavar="MODEL", help="a file that train has written")
    predict.add_argument("table", metavar="TABLE", help="CSV, Parquet or npz; - for CSV on standard input")
    text = "write .csv, .parquet or .npz (default: CSV to standard output)"
    predict.add_argument("--out", metavar="FILE", help=text)
    predict.add_argument("--proba", action="store_true", help="probabilities, a column for each class")
    text = "what parts columns of CSV (default: , ; or tab, as found)"
    predict.add_argument("--delimiter", type=delimiter, metavar="C", help=text)
    predict.add_argument("--threads", type=positive, metavar="K", help="threads to use (default: all cores)")
    predict.set_defaults(run=predict_command)


def _add_info(commands: Any) -> None:
    info = _add_command(
        commands,
        "info",
        "show versions, CPU, threads and GPU, or what is in a model's file",
        examples="  fastmlp info\n  fastmlp info flowers.fastmlp\n",
    )
    info.add_argument("model", metavar="MODEL", nargs="?", help="a file that train, or fastmlp.save, has written")
    info.set_defaults(run=info_command)


def _add_demo(commands: Any) -> None:
    demo = _add_command(
        commands,
        "demo",
        "train on scikit-learn's bundled digits and compare with three baselines",
        examples="  fastmlp demo\n  fastmlp demo --hidden 256 128 --epochs 30 --plot digits.png\n",
    )
    demo.add_argument("--epochs", type=positive, default=50, metavar="N", help="passes over the data (default: 50)")
    text = "widths of the hidden layers (default: 128)"
    demo.add_argument("--hidden", type=positive, nargs="*", default=[128], metavar="WIDTH", help=text)
    demo.add_argument("--threads", type=positive, metavar="K", help="threads to train with (default: all cores)")
    demo.add_argument("--seed", type=seed, default=0, metavar="S", help="seed of split, start and order (default: 0)")
    demo.add_argument("--plot", type=picture, metavar="FILE", help=f"draw the result ({', '.join(PICTURES)})")
    demo.set_defaults(run=demo_command)


# ---- train ---------------------------------------------------------------------------------------------------------


def train_command(args: argparse.Namespace) -> None:
    """Read, split, prepare, train, score, compare, save."""
    from fastmlp import tables

    say = _silent if args.quiet else print
    out = _model_path(args)
    file = tables.open_table(args.data, args.delimiter)
    target = file.names[-1] if args.target is None else file.place(args.target, "--target")
    for name in args.drop:
        file.place(name, "--drop")
    table, texts = _read_with_target(file, target, args.drop, say)
    task, reason = (args.task, "--task") if args.task else tables.choose_task(texts)
    y = tables.numbers_of(texts, target) if task == "regression" else _classes(texts, target)
    why = "" if args.target else "; the last column is the target, as there is no --target"
    say(f"{file.label}: {len(y)} rows; {task} of {target!r} ({reason}){why}")
    test: tuple[Table, np.ndarray] | None = None
    if args.test is not None:
        test = _read_test(args, target, y, say)
    elif args.test_fraction > 0:
        train_rows, test_rows = tables.split_rows(y, args.test_fraction, args.seed, task == "classification")
        test = (tables.take(table, test_rows), y[test_rows]) if len(test_rows) else None
        table, y = tables.take(table, train_rows), y[train_rows]
    if len(y) < 2:
        raise ValueError(f"{file.label} has {len(y)} row(s) to train on; two are needed")

    model = tables.TableModel(_estimator(args, task, y), target).prepare(table)
    for note in model.notes_:
        say(f"  note: {note}")
    X = model.transform(table)
    del table
    score_test = test is not None and len(test[1]) > 0
    X_test = model.transform(test[0]) if test is not None and score_test else None
    _describe_plan(model, y, 0 if test is None else len(test[1]), say)
    seconds = _fit(model, X, y, args)
    _describe_training(model, args, seconds, say)
    if test is not None and score_test:
        start = time.perf_counter()
        predicted = model.predict_prepared(X_test)
        _score(model, (X, y), (X_test, test[1]), predicted, (seconds, time.perf_counter() - start), args)
    _save(model, out, say)


def _silent(*_: Any) -> None:
    pass


def _model_path(args: argparse.Namespace) -> Path:
    """Where the model goes; refused before the training if it could not be written there."""
    from fastmlp import persistence

    if args.out is None:
        name = "model" if args.data == "-" else Path(args.data).name.split(".")[0] or "model"
        path = Path(f"{name}.fastmlp")
    else:
        path = Path(args.out)
    if path.is_dir():
        raise ValueError(f"--out {path} is a folder; a file is needed")
    if not path.parent.is_dir():
        raise ValueError(f"--out {path}: there is no folder {str(path.parent)!r}")
    if not os.access(path.parent, os.W_OK):
        raise ValueError(f"--out {path}: the folder cannot be written to")
    if path.exists():
        try:
            persistence.read(path)
        except ValueError:
            raise ValueError(f"--out {path} is there and is not a model; delete it, or choose another name") from None
    return path


def _read_with_target(file: "TableFile", target: str, drop: Sequence[str], say: Any) -> "tuple[Table, np.ndarray]":
    """The features and the target, as text, of the rows that have one."""
    import numpy as np

    from fastmlp import tables

    table = file.read(text=[target], names=[name for name in file.names if name not in drop or name == target])
    texts = table.pop(target)
    if len(texts) == 0:
        raise ValueError(f"{file.label} has a header but no rows")
    known = texts != ""
    if not known.any():
        raise ValueError(f"the target {target!r} has no values in {file.label}")
    if not known.all():
        say(f"  note: {np.count_nonzero(~known)} of {len(known)} rows of {file.label} are left out: {target!r} is missing")
        rows = np.flatnonzero(known)
        table, texts = tables.take(table, rows), texts[rows]
    return table, texts


def _classes(texts: "np.ndarray", target: str) -> "np.ndarray":
    from fastmlp import tables

    distinct = len(set(texts.tolist()))
    if distinct > tables.MOST_CLASSES and 2 * distinct > len(texts):
        raise ValueError(
            f"the target {target!r} has {distinct} classes in {len(texts)} rows, too many to learn; is it the right "
            "column, and are its numbers written as such?"
        )
    if distinct < 2:
        raise ValueError(f"the target {target!r} is {texts[0]!r} in every row; two classes are needed")
    return tables.labels_of(texts)


def _read_test(args: argparse.Namespace, target: str, y: "np.ndarray", say: Any) -> "tuple[Table, np.ndarray]":
    import numpy as np

    from fastmlp import tables

    file = tables.open_table(args.test, args.delimiter)
    file.place(target, "the target")
    table, texts = _read_with_target(file, target, args.drop, say)
    if y.dtype.kind == "f":
        return table, tables.numbers_of(texts, target)
    classes = np.unique(y)
    y_test = tables.labels_like(texts, classes)
    unknown = np.count_nonzero(~np.isin(y_test, classes))
    if unknown:
        say(f"  note: {unknown} rows of {file.label} have classes that training does not; they count as wrong")
    return table, y_test


def _estimator(args: argparse.Namespace, task: str, y: "np.ndarray") -> Any:
    import numpy as np

    from fastmlp import MLPClassifier, MLPRegressor

    early_stopping = not args.no_early_stopping and len(y) >= STOPPING_ROWS
    if task == "classification":
        early_stopping = early_stopping and np.unique(y, return_counts=True)[1].min() >= 2
    settings = {
        "hidden_layer_sizes": tuple(args.hidden),
        "activation": args.activation,
        "dropout": args.dropout,
        "max_iter": args.epochs,
        "batch_size": min(args.batch_size, len(y)) if args.batch_size else "auto",
        "learning_rate_init": args.learning_rate,
        "early_stopping": early_stopping,
        "random_state": args.seed,
        "device": args.device,
    }
    settings |= {} if args.alpha is None else {"alpha": args.alpha}
    settings |= {} if args.l2 is None else {"l2": args.l2}
    return (MLPClassifier if task == "classification" else MLPRegressor)(**settings)


def _describe_plan(model: "TableModel", y: "np.ndarray", test_rows: int, say: Any) -> None:
    import numpy as np

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


def _fit(model: "TableModel", X: Any, y: "np.ndarray", args: argparse.Namespace) -> float:
    """Train; returns the seconds it took. Ctrl-C, which the estimators take as an early end, ends the command."""
    from sklearn.exceptions import ConvergenceWarning

    import fastmlp

    fastmlp.warmup(("float32",))
    parameters = {} if args.checkpoint is None else {"checkpoint": args.checkpoint}
    model.estimator.verbose = int(not args.quiet and sys.stderr.isatty())
    start = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit_prepared(X, y, **parameters)
    seconds = time.perf_counter() - start
    model.estimator.verbose = False
    for found in caught:
        if "interrupted by user" in str(found.message):
            raise KeyboardInterrupt
        if not issubclass(found.category, ConvergenceWarning):  # which _describe_training says better
            _warn(found.message)
    return seconds


def _describe_training(model: "TableModel", args: argparse.Namespace, seconds: float, say: Any) -> None:
    estimator = model.estimator
    epochs = estimator.n_iter_
    say(f"\ntrained {epochs} epochs in {seconds:.2f} s, until {_ending(estimator, args)}")
    if epochs == args.epochs and estimator._no_improvement_count <= estimator.n_iter_no_change:
        say("  note: the network was still getting better; more --epochs, or a higher --learning-rate, may help")


def _ending(estimator: Any, args: argparse.Namespace) -> str:
    if estimator.n_iter_ == args.epochs:
        return "there were no more to do"
    if estimator.early_stopping:
        return "the score on the rows set aside rose no more; the weights with the best one stand"
    return "the loss fell no more"


def _score(
    model: "TableModel",
    training: "tuple[Any, np.ndarray]",
    test: "tuple[Any, np.ndarray]",
    predicted: "np.ndarray",
    seconds: tuple[float, float],
    args: argparse.Namespace,
) -> None:
    """Say how well the rows held out were predicted, and the baselines beside it."""
    if args.quiet:
        return
    import numpy as np

    from fastmlp import baselines

    (X, y), (X_test, y_test) = training, test
    print(f"held-out rows: {_score_text(model, y_test, predicted, _simplest(model, y))}", flush=True)
    if args.no_baselines:
        return
    many = len(y) > BASELINE_ROWS or len(y_test) > BASELINE_TEST_ROWS
    rng = np.random.default_rng(args.seed)
    rows = np.sort(rng.permutation(len(y))[:BASELINE_ROWS])
    test_rows = np.sort(rng.permutation(len(y_test))[:BASELINE_TEST_ROWS])
    error = baselines.mean_absolute_error(y_test[test_rows], predicted[test_rows]) if model.regression else None
    own = baselines.score(y_test[test_rows], predicted[test_rows], model.regression)
    scores: list[Score] = [baselines.Score("multilayer network", own, *seconds, error)]
    scores += baselines.score_baselines(
        X[rows],
        y[rows],
        X_test[test_rows],
        y_test[test_rows],
        models=_baselines(model.regression, args.seed, min(len(rows), 5)),
        regression=model.regression,
    )
    print()
    baselines.print_scores(scores)
    if many:
        print(
            f"(baselines are fitted on {len(rows)} of {len(y)} rows; "
            f"all are scored here on {len(test_rows)} of {len(y_test)})"
        )


def _baselines(regression: bool, random_state: int, neighbours: int) -> list[tuple[str, Any]]:
    from sklearn.dummy import DummyClassifier, DummyRegressor

    from fastmlp import baselines

    if regression:
        models = [*baselines.baseline_regressors(random_state), ("mean of the target", DummyRegressor())]
    else:
        classifiers = baselines.baseline_classifiers(random_state, BASELINE_ITERATIONS)
        models = [*classifiers, ("most frequent class", DummyClassifier())]
    for name, model in models:
        if name == "nearest neighbours":
            model.set_params(n_neighbors=neighbours)
    return models


def _simplest(model: "TableModel", y: "np.ndarray") -> Any:
    """What one would predict without looking at any feature: the most frequent class, or the mean."""
    import numpy as np

    if model.regression:
        return float(y.mean())
    classes, counts = np.unique(y, return_counts=True)
    return classes[counts.argmax()]


def _score_text(model: "TableModel", y: "np.ndarray", predicted: "np.ndarray", simplest: Any = None) -> str:
    """The score in words, with the one that `simplest` for all rows would get beside it."""
    import numpy as np

    from fastmlp import baselines

    value = baselines.score(y, predicted, model.regression)
    if not model.regression:
        text = f"accuracy {value:.4f} ({np.count_nonzero(y == predicted)} of {len(y)} right)"
        beside = "" if simplest is None else f"; always {str(simplest)!r}: {np.mean(y == simplest):.4f}"
        return text + beside
    error = baselines.mean_absolute_error(y, predicted)
    beside = ""
    if simplest is not None:
        beside = f"; always the mean: {baselines.mean_absolute_error(y, np.full(len(y), simplest)):.4g}"
    return f"R^2 {value:.4f}, mean absolute error of {model.target!r} {error:.4g}{beside}"


def _save(model: "TableModel", out: Path, say: Any) -> None:
    import fastmlp

    verb = "replaced" if out.exists() else "wrote"
    fastmlp.save(model, out)
    say(f"\n{verb} {out} ({_size(out)}); predict with\n  fastmlp predict {shlex.quote(str(out))} NEW.csv")


def _size(path: Path) -> str:
    size = path.stat().st_size
    return f"{size / 1e3:.1f} kB" if size < 1e6 else f"{size / 1e6:.1f} MB"


# ---- predict -------------------------------------------------------------------------------------------------------


def predict_command(args: argparse.Namespace) -> None:
    """Read model and table, predict, write; score where the target is there."""
    import fastmlp
    from fastmlp import tables

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
        if Path(args.out).suffix.lower() in tables.PARQUET:
            tables.import_pandas(args.out)  # before the work is done
    file = tables.open_table(args.table, args.delimiter)
    wanted = [*model.numbers_, *model.categories_]
    lacking = [name for name in wanted if name not in file.names]
    if lacking:
        hint = tables.did_you_mean(lacking[0], file.names) if len(lacking) == 1 else ""
        raise ValueError(f"{file.label} lacks {len(lacking)} column(s) of the model: {tables.quoted(lacking)}{hint}")
    table = file.read(text=[*model.categories_, model.target], names=[*wanted, model.target])
    texts = table.pop(model.target, None)
    try:
        X = model.transform(table)
    except ValueError as error:
        raise ValueError(f"{file.label}: {error}") from None
    predicted = model.predict_prepared(X)
    result = {model.target: predicted}
    if args.proba:
        h = model.estimator.predict_proba(X) if len(predicted) else X[:, :0].repeat(0)
        result = {str(label): h[:, place] if len(h) else h for place, label in enumerate(model.classes_)}
    if args.out is None:
        tables.write_csv(sys.stdout, result)
        sys.stdout.flush()
    else:
        tables.write_table(args.out, result)
    if texts is not None:
        _score_known(model, texts, predicted)


def _score_known(model: "TableModel", texts: "np.ndarray", predicted: "np.ndarray") -> None:
    """Say on standard error how the rows whose target is known were predicted."""
    import numpy as np

    from fastmlp import tables

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
    print(f"score on {len(known)} rows: {_score_text(model, y, predicted[known])}", file=sys.stderr)


# ---- info and demo -------------------------------------------------------------------------------------------------


def info_command(args: argparse.Namespace) -> None:
    """Print what is known of the machine, or of a file."""
    import fastmlp

    if args.model is None:
        fastmlp.show_versions()
    else:
        _describe_file(args.model)


def _describe_file(path: str) -> None:
    import fastmlp
    from fastmlp import persistence

    kind, values, _ = persistence.read(path)
    print(f"{path}: {kind}, {_size(Path(path))}")
    if kind.endswith(" checkpoint"):
        print("  a training's state, to go on from: train --checkpoint, or checkpoint= in Python")
        return
    model = fastmlp.load(path)
    if kind == "TableModel":
        import numpy as np

        from fastmlp.tables import quoted

        print(f"  target      {model.target!r}, {'a number' if model.regression else 'classes'}")
        for title, names in (("numbers", model.numbers_), ("categories", list(model.categories_))):
            if names:
                print(f"  {title:11} {len(names)}: {quoted(names, 12)}")
        model = model.estimator
        del np
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
    print(f"  trained     {epochs} epochs")
    del values


def demo_command(args: argparse.Namespace) -> None:
    """Train, score, compare, draw."""
    import numba

    from fastmlp.demo import demo

    demo(args.epochs, args.hidden, args.seed, args.plot, numba.get_num_threads())


# ---- main ----------------------------------------------------------------------------------------------------------


def _one_line(error: object) -> str:
    """What an error says, in one line."""
    if isinstance(error, MemoryError):
        return "there is not enough memory"
    if isinstance(error, OSError) and error.strerror:
        name = error.filename
        return f"{os.fsdecode(name)}: {error.strerror}" if isinstance(name, (str, bytes)) else error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def _warn(message: object, *_: Any) -> None:
    print(f"fastmlp: warning: {_one_line(message)}", file=sys.stderr)


@contextlib.contextmanager
def _threads(threads: int | None) -> Iterator[None]:
    """Let Numba use so many threads."""
    if threads is None:
        yield
        return
    import numba

    before = numba.get_num_threads()
    try:
        numba.set_num_threads(threads)
    except ValueError as error:
        raise ValueError(f"--threads {threads}: {error}") from error
    try:
        yield
    finally:
        numba.set_num_threads(before)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that `arguments` (by default the process's own) ask for; returns the exit code."""
    args = build_parser().parse_args(arguments)
    try:
        with warnings.catch_warnings(), _threads(getattr(args, "threads", None)):
            warnings.showwarning = _warn
            args.run(args)
            sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as head, has seen enough
        with contextlib.suppress(Exception):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or its last flush would complain
    except (ValueError, ArithmeticError, OSError, MemoryError, ImportError, TypeError) as error:
        print(f"fastmlp: error: {_one_line(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("fastmlp: interrupted; nothing was written", file=sys.stderr)
        return 130
    return 0
