"""Tables in files: CSV, Parquet and npz.

A table is a dictionary of columns by name. A column is an array of numbers, with NaN where one is missing, or an object
array of text, with "" where it is missing.
"""

import csv
import difflib
import gzip
import io
import os
import re
import shutil
import stat
import sys
import tempfile
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Generator, Iterator, Sequence
from contextlib import contextmanager
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from fastmlp.persistence import whole_file

MISSING = frozenset(  # pandas' list, for a frame of a CSV file to have the same gaps, NAN and NaT
    ("", "NA", "N/A", "n/a", "nan", "NaN", "NAN", "-nan", "-NaN", "NaT", "null", "NULL", "None", "<NA>")
    + ("#NA", "#N/A", "#N/A N/A", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN")
)
DECIMAL = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]*([eE][+-]?[0-9]+)?|[eE][+-]?[0-9]+)")  # not what is written as whole
MOMENT = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})[T ]([0-9]{2}:[0-9]{2})(:[0-9]{2})?(?:\.([0-9]+))?")
ENTRIES = 500_000  # of a CSV file that are text at a time
DELIMITERS = ",;\t"
UTF_16 = (b"\xff\xfe", b"\xfe\xff")
SPREADSHEETS = (".ods", ".xls", ".xlsx")
PARQUET = (".parquet", ".pq")

Column = np.ndarray
Table = dict[str, Column]


# ---- columns -------------------------------------------------------------------------------------------------------


def quoted(names: Collection[str], most: int = 10) -> str:
    """Names for a message, the first ones of many."""
    shown = ", ".join(repr(name) for name in list(names)[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def did_you_mean(name: str, names: Collection[str]) -> str:
    """The end of a message about a name that is not there."""
    lower = {other.lower(): other for other in names}
    near = [lower[found] for found in difflib.get_close_matches(name.lower(), list(lower), n=1)]
    return f"; did you mean {near[0]!r}?" if near else ""


def spell(value: Any) -> str:
    """A value as a CSV file would have it; "" when it is missing."""
    if isinstance(value, (list, tuple, set, dict, np.ndarray)):
        kind = "list" if isinstance(value, np.ndarray) else type(value).__name__
        raise ValueError(f"it holds {kind}s; numbers, text and dates are allowed")
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError:
            value = value.decode("latin-1")
    if value is None or type(value).__name__ == "NAType" or value != value:
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    text = str(value).strip()
    return "" if text in MISSING else text


def one_spelling(text: str) -> str:
    """The spelling that a text shares with all others that may stand for the same value.

    R writes TRUE where pandas has True; 1.0 is 1, and 2.50 is 2.5; midnight is its date. A number with leading zeros
    is a name, and stays what it is.
    """
    if text.lower() in ("true", "false"):
        return text.lower()
    if DECIMAL.fullmatch(text):
        return spell(float(text))
    moment = MOMENT.fullmatch(text)
    if moment is None:
        return text
    day, minute, second, fraction = moment.groups()
    fraction = (fraction or "").rstrip("0")
    time = minute + (second or ":00") + (f".{fraction}" if fraction else "")
    return day if time == "00:00:00" else f"{day} {time}"


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, (bool, np.bool_))


def column(values: Any, as_text: bool = False) -> Column:
    """A column of a table, of anything that NumPy makes a one-dimensional array of."""
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"it has shape {array.shape}; one dimension is allowed")
    if array.dtype.kind in "iuf" and not as_text:
        return array
    if array.dtype.kind in "mM":
        array = array.astype(str)
    items = array.tolist()
    if array.dtype == object and not as_text:
        known = [value for value in items if value is not None and type(value).__name__ != "NAType"]
        if known and all(map(_is_number, known)):
            return np.array([value if _is_number(value) else np.nan for value in items], np.float64)
    return np.array([spell(value) if value is not None else "" for value in items], object)


def named_column(name: str, values: Any, as_text: bool) -> Column:
    """The same, for its errors to name the column."""
    try:
        return column(values, as_text)
    except ValueError as error:
        raise ValueError(f"column {name!r}: {error}") from None


def parse(entries: Sequence[str]) -> np.ndarray:
    """Numbers of text, NaN where one is missing.

    Raises
    ------
    ValueError
        When an entry is neither a number nor missing.
    """
    if "_" in "".join(entries):  # which Python allows in a number
        raise ValueError("'_' is in no number")
    try:
        return np.fromiter(map(float, entries), np.float64, len(entries))
    except ValueError:
        return np.array([np.nan if entry.strip() in MISSING else float(entry) for entry in entries])


def is_numeric(text: str) -> bool:
    """Whether a text is a number, or missing."""
    try:
        parse([text])
    except ValueError:
        return False
    return True


def take(table: Table, rows: np.ndarray) -> Table:
    """Some of the rows."""
    return {name: values[rows] for name, values in table.items()}


def nearly_numbers(table: Table) -> Iterator[tuple[str, list[str]]]:
    """Columns of text with more numbers than other texts in them, and those others: likely a slip."""
    for name, values in table.items():
        if values.dtype == object:
            counts = Counter(values.tolist())
            del counts[""]
            others = [text for text in counts if not is_numeric(text)]
            if 0 < sum(counts[text] for text in others) < 0.5 * counts.total():
                yield name, others


# ---- files ---------------------------------------------------------------------------------------------------------


class TableFile(ABC):
    """A file with a table: the names of its columns, and the columns when they are asked for.

    Attributes
    ----------
    label : str
        What messages call the file.
    names : list of str
    """

    label: str
    names: list[str]

    def _check_names(self) -> None:
        twice = [name for name, count in Counter(self.names).items() if count > 1]
        if twice:
            raise ValueError(f"{self.label} has more than one column {quoted(twice)}; names must differ")

    def place(self, name: str, option: str) -> str:
        """The name, if there is such a column."""
        if name not in self.names:
            hint = did_you_mean(name, self.names)
            raise ValueError(f"{option} {name!r} is no column of {self.label}, which has {quoted(self.names)}{hint}")
        return name

    @abstractmethod
    def read(self, text: Collection[str] = (), names: Collection[str] | None = None) -> Table:
        """The columns.

        Parameters
        ----------
        text : collection of str
            Columns to be taken as text, whatever is in them.
        names : collection of str, optional
            The columns to read; all when not given.
        """


class _Numbers:
    """A column of a CSV file as long as all its entries are numbers."""

    def __init__(self) -> None:
        self.blocks: list[np.ndarray] = []

    def add(self, entries: Sequence[str]) -> None:
        self.blocks.append(parse(entries))

    def column(self) -> Column:
        blocks, self.blocks = self.blocks, []
        return np.concatenate(blocks) if blocks else np.empty(0)


class _Texts:
    """A column of a CSV file that has other entries: each text is kept once."""

    def __init__(self) -> None:
        self.codes: dict[str, int] = {}
        self.blocks: list[np.ndarray] = []

    def add(self, entries: Sequence[str]) -> None:
        codes = self.codes
        found = (codes.setdefault(entry.strip(), len(codes)) for entry in entries)
        self.blocks.append(np.fromiter(found, np.int32, len(entries)))

    def column(self) -> Column:
        texts = np.array(["" if text in MISSING else text for text in self.codes], object)
        blocks, self.blocks = self.blocks, []
        return texts[np.concatenate(blocks)] if blocks else np.empty(0, object)


class CSVFile(TableFile):
    """Comma-separated values: UTF-8 (or UTF-16 with its mark), a header, quotes as csv.reader knows them.

    The delimiter is a comma, or the semicolon or tab that parts the header in more columns. "-" is standard input; a
    name that ends in .gz is decompressed.

    Parameters
    ----------
    path : path-like
    delimiter : str, optional
    """

    def __init__(self, path: str | os.PathLike[str], delimiter: str | None = None):
        self.path, self.label = Path(path), "standard input" if os.fspath(path) == "-" else os.fspath(path)
        self._spool: Any = None
        if self.label == "standard input":
            self._copy(sys.stdin.buffer)
        elif stat.S_ISFIFO(os.stat(path).st_mode):  # which can be read once only
            with open(path, "rb") as file:
                self._copy(file)
        with self._open() as file:
            start = file.read(4)
        if not start:
            raise ValueError(f"{self.label} is empty; a header line with the columns' names is needed")
        self.encoding = "utf-16" if start[:2] in UTF_16 else "utf-8-sig"
        self.delimiter = delimiter or ","
        if delimiter is None:
            self.delimiter = max(DELIMITERS, key=lambda mark: len(self._header(mark)))
        header = self._header(self.delimiter)
        if not header:
            raise ValueError(f"{self.label} is empty; a header line with the columns' names is needed")
        if all(entry and is_numeric(entry) for entry in header):
            raise ValueError(
                f"the first line of {self.label} has numbers only, {quoted(header, 3)}; a header line with the "
                "columns' names is needed"
            )
        self.names = [name or f"column {place}" for place, name in enumerate(header, 1)]
        self._check_names()

    def _copy(self, file: Any) -> None:
        self._spool = tempfile.NamedTemporaryFile(suffix=self.path.suffix)  # closed, and so deleted, with this object
        shutil.copyfileobj(file, self._spool)
        self._spool.flush()
        self.path = Path(self._spool.name)

    @contextmanager
    def _open(self) -> Iterator[Any]:
        if self.path.suffix.lower() != ".gz":
            with open(self.path, "rb") as file:
                yield file
            return
        with gzip.open(self.path, "rb") as compressed:
            try:
                yield compressed
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise ValueError(f"{self.label} is not a sound gzip file: {error}") from None

    def _lines(self, delimiter: str) -> Generator[tuple[int, list[str]], None, None]:
        """Line number and entries of every line that is not blank."""
        with self._open() as binary, io.TextIOWrapper(binary, encoding=self.encoding, newline="") as file:
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            try:
                for entries in reader:
                    if len(entries) > 1 or (entries and entries[0].strip()):
                        yield reader.line_num, entries
            except UnicodeDecodeError as error:
                byte = error.object[error.start]
                raise ValueError(
                    f"{self.label}, near line {reader.line_num + 1}: it is not UTF-8 text (byte {byte:#x}); "
                    "save it as UTF-8"
                ) from None
            except csv.Error as error:
                raise ValueError(f"{self.label}, line {reader.line_num}: {error}; is a quote left open?") from None

    def _header(self, delimiter: str) -> list[str]:
        lines = self._lines(delimiter)
        try:
            return [name.strip() for name in next(lines, (0, []))[1]]
        finally:
            lines.close()

    def _blocks(self) -> Iterator[list[list[str]]]:
        lines = self._lines(self.delimiter)
        next(lines)
        rows = max(ENTRIES // len(self.names), 1)
        block = []
        for line, entries in lines:
            if len(entries) != len(self.names):
                raise ValueError(
                    f"{self.label}, line {line}: there are {len(entries)} entries for {len(self.names)} columns"
                )
            block.append(entries)
            if len(block) == rows:
                yield block
                block = []
        if block:
            yield block

    def read(self, text: Collection[str] = (), names: Collection[str] | None = None) -> Table:
        """The columns: of numbers where every entry is one, or missing, else of text."""
        places = {name: place for place, name in enumerate(self.names) if names is None or name in names}
        text = set(text)
        while True:
            columns: dict[str, Any] = {name: _Texts() if name in text else _Numbers() for name in places}
            again = False
            for number, block in enumerate(self._blocks()):
                entries = list(zip(*block))
                for name, place in places.items():
                    try:
                        columns[name].add(entries[place])
                    except ValueError:
                        # how the numbers before it were written is not known any more
                        again = again or number > 0
                        text.add(name)
                        columns[name] = _Texts()
                        columns[name].add(entries[place])
            if not again:
                return {name: found.column() for name, found in columns.items()}


class ParquetFile(TableFile):
    """A Parquet file, read by pandas.

    Parameters
    ----------
    path : path-like
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.label = os.fspath(path)
        pandas = import_pandas(self.label)
        with open(path, "rb") as file:  # for its errors, which name the file
            try:
                self._frame = pandas.read_parquet(file)
            except ValueError as error:
                raise ValueError(f"{self.label} cannot be read as Parquet: {error}") from None
        self.names = [str(name) for name in self._frame.columns]
        self._check_names()

    def read(self, text: Collection[str] = (), names: Collection[str] | None = None) -> Table:
        """The columns: of numbers where pandas has numbers, else of text."""
        return {
            name: named_column(name, self._frame[key], name in text)
            for name, key in zip(self.names, self._frame.columns)
            if names is None or name in names
        }


class NPZFile(TableFile):
    """An .npz file of NumPy's: each one-dimensional array is a column; a two-dimensional X has columns x0, x1, ...

    X's columns come first. Arrays of Python objects are refused.

    Parameters
    ----------
    path : path-like
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.label = os.fspath(path)
        self._columns: Table = {}
        with open(path, "rb") as opened:
            if not zipfile.is_zipfile(opened):
                raise ValueError(f"{self.label} is not an npz file")
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        except (ValueError, zipfile.BadZipFile, EOFError) as error:
            reason = "it holds Python objects" if "allow_pickle" in str(error) else error
            raise ValueError(f"{self.label} cannot be read as npz: {reason}") from None
        if "X" in arrays and arrays["X"].ndim == 2:
            X = arrays.pop("X")
            self._columns = {f"x{place}": X[:, place] for place in range(X.shape[1])}
        for name, array in arrays.items():
            if array.ndim == 2 and array.shape[1] == 1:
                array = array[:, 0]
            if array.ndim != 1:
                raise ValueError(
                    f"{self.label} has an array {name!r} of shape {array.shape}; one-dimensional arrays, each a "
                    "column, and a two-dimensional X are allowed"
                )
            if name in self._columns:
                raise ValueError(f"{self.label} has an array {name!r}, which is also the name of a column of X")
            self._columns[name] = array
        self.names = list(self._columns)
        lengths = {name: len(array) for name, array in self._columns.items()}
        if len(set(lengths.values())) > 1:
            short = min(lengths, key=lambda name: lengths[name])
            raise ValueError(
                f"{self.label} has columns of different lengths: {short!r} has {lengths[short]}, others up to "
                f"{max(lengths.values())}"
            )
        if not self.names:
            raise ValueError(f"{self.label} is empty; arrays are needed")

    def read(self, text: Collection[str] = (), names: Collection[str] | None = None) -> Table:
        """The columns: of numbers where the arrays are, else of text."""
        wanted = self.names if names is None else [name for name in self.names if name in names]
        return {name: named_column(name, self._columns[name], name in text) for name in wanted}


def import_pandas(label: str) -> Any:
    """pandas, which reads and writes Parquet files.

    Raises
    ------
    ValueError
        When it, or the package that it reads them with, is not installed.
    """
    try:
        import pandas
        import pyarrow  # noqa: F401
    except ImportError:
        raise ValueError(f"{label} needs pandas and pyarrow: pip install 'fastmlp[parquet]'") from None
    return pandas


def open_table(path: str | os.PathLike[str], delimiter: str | None = None) -> TableFile:
    """A file with a table, by the end of its name: .parquet, .npz, anything else is CSV; "-" is CSV on standard input.

    Parameters
    ----------
    path : path-like
    delimiter : str, optional
        What parts the columns of a CSV file; found out when not given.

    Raises
    ------
    OSError
        When there is no such file, or it cannot be read.
    ValueError
        When it is not a table.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix in SPREADSHEETS:
        raise ValueError(f"{path} is a spreadsheet; save it as CSV")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; a file is needed")
    if suffix in PARQUET:
        return ParquetFile(path)
    if suffix == ".npz":
        return NPZFile(path)
    if suffix == ".tsv" and delimiter is None:
        delimiter = "\t"
    return CSVFile(path, delimiter)


def write_csv(file: Any, table: Table) -> None:
    """Write a table as comma-separated values; numbers so that reading them gives the same bits."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(table)
    # str of NumPy's scalar is the shortest that gives the same bits in its own dtype
    columns = [map(str, values) if values.dtype.kind == "f" else values.tolist() for values in table.values()]
    writer.writerows(zip(*columns))


def write_table(path: str | os.PathLike[str], table: Table) -> None:
    """Write a table to a file, in one piece: Parquet or npz by the end of its name, else CSV."""
    path = Path(path)
    suffix = path.suffix.lower()
    pandas = import_pandas(str(path)) if suffix in PARQUET else None
    with whole_file(path) as part:
        if pandas is not None:
            with open(part, "wb") as binary:
                pandas.DataFrame(table).to_parquet(binary, index=False)
        elif suffix == ".npz":
            with zipfile.ZipFile(part, "w") as archive:  # np.savez has names of its own, such as file=
                for name, values in table.items():
                    values = values.astype(str) if values.dtype == object else values
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                        np.lib.format.write_array(member, values, allow_pickle=False)
        else:
            with open(part, "w", encoding="utf-8", newline="") as text:
                write_csv(text, table)
