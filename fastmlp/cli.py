"""The command line, `fastmlp` or `python -m fastmlp`: train on a table, predict, look around, a demo.

Arguments are parsed before anything heavy is imported. An error is one line on standard error. The exit code is

    0    it is done
    1    it could not be done: a file that is not there or not good, data that cannot be learned from
    2    wrong arguments
    130  Ctrl-C

Results go to standard output; progress, warnings and errors to standard error.
"""

import argparse
import contextlib
import math
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

__all__ = ["main"]

PICTURES = (".pdf", ".png", ".svg")
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
are missing. Rows without a target are left out.

With 300 rows or more to train on, a tenth of them is set aside, and training stops when the loss
on these falls no more.""",
        "  fastmlp train flowers.csv --target species\n"
        "  fastmlp train flowers.csv --target species --hidden 128 64 --dropout 0.2 --out big.fastmlp\n"
        "  fastmlp train houses.parquet --target price --test houses-2025.parquet --epochs 500\n"
        "  fastmlp train long.csv --checkpoint long.checkpoint     the same command goes on after a crash\n",
    )
    train.usage = "fastmlp train DATA [--target COLUMN] [--hidden WIDTH ...] [--out FILE] [options]"
    data = train.add_argument_group("data")
    add = data.add_argument
    add("data", metavar="DATA", help="the table to train on")
    add("--target", metavar="COLUMN", help="the column to predict (default: the last one)")
    add("--drop", metavar="COLUMN", nargs="+", default=[], help="columns that are not used")
    text = (
        "classes or numbers (default: classes where the target has text, or at most 20 whole numbers, "
        "each met twice on average)"
    )
    add("--task", choices=["classification", "regression"], help=text)
    held_out = data.add_mutually_exclusive_group()
    text = "the part of the rows held out for the score; 0 for no score (default: 0.2)"
    held_out.add_argument("--test-fraction", type=fraction, default=0.2, metavar="F", help=text)
    held_out.add_argument("--test", metavar="FILE", help="a table to score on, in place of rows held out")
    add("--delimiter", type=delimiter, metavar="C", help="what parts columns of CSV (default: , ; or tab, as found)")
    add("--seed", type=seed, default=0, metavar="S", help="of split, start and order (default: 0)")

    network = train.add_argument_group("network")
    add = network.add_argument
    text = "widths of the hidden layers, after DATA; none for a linear model (default: 100)"
    add("--hidden", type=positive, nargs="*", default=[100], metavar="WIDTH", help=text)
    names = ["identity", "logistic", "tanh", "relu", "softplus"]
    add("--activation", choices=names, default="relu", help="of the hidden layers (default: relu)")
    add("--dropout", type=fraction, default=0.0, metavar="P", help="hidden units each update leaves out (default: 0)")
    weights = network.add_mutually_exclusive_group()
    text = "weight penalty, divided by the rows of a minibatch (default: 0.0001)"
    weights.add_argument("--alpha", type=penalty, metavar="A", help=text)
    weights.add_argument("--l2", type=penalty, metavar="L", help="weight penalty, not divided")

    add = train.add_argument_group("training").add_argument
    text = "passes over the data at most (default: 200)"
    add("--epochs", "--max-iter", type=positive, default=200, metavar="N", help=text)
    add("--batch-size", type=positive, metavar="B", help="rows of a minibatch (default: 32 to 200)")
    add("--learning-rate", type=rate, default=0.001, metavar="R", help="of Adam (default: 0.001)")
    text = "set no rows aside: train until the loss on all of them falls no more"
    add("--no-early-stopping", action="store_true", help=text)
    text = "write the training's state here, and go on from it if it is there"
    add("--checkpoint", metavar="FILE", help=text)
    add("--threads", type=positive, metavar="K", help="threads to train with (default: all cores)")
    add("--device", choices=["cpu", "cuda", "auto"], default="cpu", help="what to train on (default: cpu)")
    add(
        "--precision",
        choices=["float32", "tf32", "bf16"],
        default="float32",
        help="what products are multiplied in, where the device has it (default: float32)",
    )

    add = train.add_argument_group("results").add_argument
    text = "the model's file; a model that is there is replaced (default: DATA's name, ending in .fastmlp, here)"
    add("--out", metavar="FILE", help=text)
    add("--no-baselines", action="store_true", help="do not compare with simpler models")
    add("--quiet", action="store_true", help="print nothing but warnings and errors")
    train.set_defaults(run="train")


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
    predict.set_defaults(run="predict")


def _add_info(commands: Any) -> None:
    info = _add_command(
        commands,
        "info",
        "show versions, CPU, threads and GPU, or what is in a model's file",
        examples="  fastmlp info\n  fastmlp info flowers.fastmlp\n",
    )
    info.add_argument("model", metavar="MODEL", nargs="?", help="a file that train, or fastmlp.save, has written")
    info.set_defaults(run="info")


def _add_demo(commands: Any) -> None:
    demo = _add_command(
        commands,
        "demo",
        "train on scikit-learn's bundled digits and compare with simpler models",
        examples="  fastmlp demo\n  fastmlp demo --hidden 256 128 --epochs 30 --plot digits.png\n",
    )
    demo.add_argument("--epochs", type=positive, default=50, metavar="N", help="passes over the data (default: 50)")
    text = "widths of the hidden layers (default: 128)"
    demo.add_argument("--hidden", type=positive, nargs="*", default=[128], metavar="WIDTH", help=text)
    demo.add_argument("--threads", type=positive, metavar="K", help="threads to train with (default: all cores)")
    demo.add_argument("--seed", type=seed, default=0, metavar="S", help="seed of split, start and order (default: 0)")
    demo.add_argument("--plot", type=picture, metavar="FILE", help=f"draw the result ({', '.join(PICTURES)})")
    demo.set_defaults(run="demo")


# ---- main ----------------------------------------------------------------------------------------------------------


def one_line(error: object) -> str:
    """What an error says, in one line."""
    if isinstance(error, MemoryError):
        return "there is not enough memory"
    if isinstance(error, OSError) and error.strerror:
        name = error.filename
        return f"{os.fsdecode(name)}: {error.strerror}" if isinstance(name, (str, bytes)) else error.strerror
    return " ".join(str(error).split()) or type(error).__name__


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
            from fastmlp import commands

            warnings.showwarning = commands.warn
            getattr(commands, args.run)(args)
            sys.stdout.flush()
    except BrokenPipeError:
        with contextlib.suppress(Exception):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or its last flush would complain
        if args.run == "train":
            print("fastmlp: error: what reads the output has gone away", file=sys.stderr)
            return 1
    except (ValueError, ArithmeticError, OSError, MemoryError, ImportError) as error:
        print(f"fastmlp: error: {one_line(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as error:
        print(f"fastmlp: interrupted{f'; {error}' if str(error) else ''}", file=sys.stderr)
        return 130
    return 0
