"""Tables: read from CSV, Parquet and npz files; scaled and encoded for a network, which is trained and saved with that.

A table is a dictionary of columns by name. A column is an array of numbers, with NaN where one is missing, or an object
array of text, with "" where it is missing. pandas' and polars' frames are tables, too.
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
from collections import Counter
from collections.abc import Collection, Generator, Iterator, Sequence
from contextlib import contextmanager
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from fastmlp import persistence

MISSING = frozenset(("", "NA", "N/A", "nan", "NaN", "NAN", "NaT", "null", "NULL", "<NA>"))
BLOCK = 10_000  # rows that are read, or scaled and encoded, at a time
MOST_CATEGORIES = 100  # of a column; the rarer ones are not told apart
MOST_CLASSES = 20  # distinct whole numbers in a target that are taken as classes
IDENTIFIER_SHARE = 0.9  # distinct texts a row, beyond which they name the rows
SPARSE_SHARE = 0.2  # of entries that are not 0, below which X is a sparse matrix
WHOLE = re.compile(r"0|-?[1-9][0-9]{0,17}")
IDENTIFIER = re.compile(r"(.*[ _.-])?(id|idx|index|key|no|nr|row|rownum|uuid|guid)|column \d+|unnamed: \d+", re.IGNORECASE)
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
    if value is None or type(value).__name__ == "NAType" or value != value:
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    text = str(value).strip()
    return "" if text in MISSING else text


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
        return np.array(list(map(float, entries)))
    except ValueError:
        return np.array([np.nan if entry.strip() in MISSING else float(entry) for entry in entries])


def _is_numeric(text: str) -> bool:
    try:
        parse([text])
    except ValueError:
        return False
    return True


def take(table: Table, rows: np.ndarray) -> Table:
    """Some of the rows."""
    return {name: values[rows] for name, values in table.items()}


# ---- files ---------------------------------------------------------------------------------------------------------


class TableFile:
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

    def read(self, text: Collection[str] = (), names: Collection[str] | None = None) -> Table:
        """The columns.

        Parameters
        ----------
        text : collection of str
            Columns to be taken as text, whatever is in them.
        names : collection of str, optional
            The columns to read; all when not given.
        """
        raise NotImplementedError


class _Numbers:
    """A column of a CSV file as long as all its entries are numbers."""

    def __init__(self) -> None:
        self.blocks: list[np.ndarray] = []

    def add(self, entries: Sequence[str]) -> None:
        self.blocks.append(parse(entries))

    def column(self) -> Column:
        return np.concatenate(self.blocks) if self.blocks else np.empty(0)


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
        return texts[np.concatenate(self.blocks)] if self.blocks else np.empty(0, object)


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
        if all(entry and _is_numeric(entry) for entry in header):
            raise ValueError(
                f"the first line of {self.label} has numbers only, {quoted(header, 3)}; a header line with the columns' "
                "names is needed"
            )
        self.names = [name or f"column {place}" for place, name in enumerate(header, 1)]
        self._check_names()

    def _copy(self, file: Any) -> None:
        self._spool = tempfile.NamedTemporaryFile(suffix=self.path.suffix)  # closed, and so deleted, with this object
        shutil.copyfileobj(file, self._spool)
        self._spool.flush()
        self.path = Path(self._spool.name)

    def _open(self) -> Any:
        return gzip.open(self.path, "rb") if self.path.suffix.lower() == ".gz" else open(self.path, "rb")

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
            except EOFError:
                raise ValueError(f"{self.label} is cut off: its compressed part has no end") from None

    def _header(self, delimiter: str) -> list[str]:
        lines = self._lines(delimiter)
        try:
            return [name.strip() for name in next(lines, (0, []))[1]]
        finally:
            lines.close()

    def _blocks(self) -> Iterator[list[list[str]]]:
        lines = self._lines(self.delimiter)
        next(lines)
        block = []
        for line, entries in lines:
            if len(entries) != len(self.names):
                raise ValueError(
                    f"{self.label}, line {line}: there are {len(entries)} entries for {len(self.names)} columns"
                )
            block.append(entries)
            if len(block) == BLOCK:
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
            name: _named_column(name, self._frame[key], name in text)
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
        return {name: _named_column(name, self._columns[name], name in text) for name in wanted}


def import_pandas(label: str) -> Any:
    """pandas, which reads and writes Parquet files.

    Raises
    ------
    ValueError
        When it, or the package that it reads them with, is not installed.
    """
    try:
        import pandas
        import pyarrow  # type: ignore[import-untyped]  # noqa: F401
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


@contextmanager
def _whole_file(path: Path) -> Iterator[Path]:
    """A file beside `path` to write to, which takes its place at the end, or is deleted after an error."""
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():  # /dev/null, or a named pipe
        yield target
        return
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        yield part
        os.replace(part, target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


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
    with _whole_file(path) as part:
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


# ---- targets -------------------------------------------------------------------------------------------------------


def choose_task(texts: Column) -> tuple[str, str]:
    """ "classification" or "regression", and why, by what a target's column has.

    Regression where all entries are numbers, unless they are whole, of at most 20 kinds, and each is met twice on
    average.
    """
    distinct = set(texts.tolist())
    try:
        values = parse(sorted(distinct))
    except ValueError:
        return "classification", "the target has text"
    if not np.all(values == np.floor(values)):
        return "regression", "the target has numbers that are not whole"
    if len(distinct) <= MOST_CLASSES and 2 * len(distinct) <= len(texts):
        return "classification", f"the target has {len(distinct)} whole numbers"
    return "regression", f"the target has {len(distinct)} different numbers"


def numbers_of(texts: Column, name: str) -> np.ndarray:
    """A regression's target."""
    try:
        values = parse(texts.tolist())
    except ValueError:
        wrong = next(text for text in texts if not _is_numeric(text))
        raise ValueError(f"the target {name!r} has {wrong!r}, which is not a number, as regression needs") from None
    if not np.isfinite(values).all():
        raise ValueError(f"the target {name!r} has numbers that are not finite")
    return values


def labels_of(texts: Column) -> np.ndarray:
    """Classes as they are spelled: integers where all are written as such, else text."""
    if all(WHOLE.fullmatch(text) for text in set(texts.tolist())):
        return texts.astype(np.int64)
    return texts.astype(str)


def labels_like(texts: Column, classes: np.ndarray) -> np.ndarray:
    """Labels to compare with those of a model, for which 1.0 is 1 where its classes are integers."""
    if classes.dtype.kind not in "iu":
        return texts.astype(str)
    spelled = {text: spell(float(text)) if text and _is_numeric(text) else text for text in set(texts.tolist())}
    none = int(classes.max()) + 1  # a label that no prediction is equal to
    values = {text: int(label) if WHOLE.fullmatch(label) else none for text, label in spelled.items()}
    return np.array([values[text] for text in texts], np.int64)


def split_rows(y: np.ndarray, fraction: float, random_state: int, stratify: bool) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train on and rows held out; with `stratify`, classes in the same proportions where there are enough.

    A class with one row only is trained on.
    """
    from sklearn.model_selection import train_test_split

    rows = np.arange(len(y))
    alone = np.empty(0, np.int64)
    classes = None
    if stratify:
        _, places, counts = np.unique(y, return_inverse=True, return_counts=True)
        single = counts[places] < 2
        alone, rows = rows[single], rows[~single]
        kinds = int((counts >= 2).sum())
        held = int(np.ceil(fraction * len(rows)))
        if min(held, len(rows) - held) >= kinds:
            classes = y[rows]
    if len(rows) < 2:
        return np.concatenate([rows, alone]), np.empty(0, np.int64)
    train, test = train_test_split(rows, test_size=fraction, random_state=random_state, stratify=classes)
    return np.concatenate([train, alone]), test


# ---- models --------------------------------------------------------------------------------------------------------


class TableModel:
    """A network for tables: columns are scaled and encoded by scikit-learn's transformers, which are saved with it.

    Columns of numbers: the median in place of what is missing, then mean 0 and variance 1. Columns of text: a unit for
    each category, missing being one of them; of more than 100 the most frequent, while the others, and those that
    training did not see, are nothing. Left out are columns of a single value, columns without any, and those that
    name the rows. A regression's target is scaled for the training; predictions are in its own unit.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
    target : str, default="target"
        The name of the column that is predicted.

    Attributes
    ----------
    numbers_ : list of str
        The columns of numbers that are used.
    categories_ : dict
        For each column of text that is used, the categories told apart.
    notes_ : list of str
        What fit found worth telling. Not saved.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp import MLPClassifier
    >>> from fastmlp.tables import TableModel
    >>> table = {"size": np.arange(40.0), "colour": ["red", "blue"] * 20}
    >>> y = np.where(np.arange(40) % 2, "no", "yes")
    >>> model = TableModel(MLPClassifier((8,), random_state=0), "good").fit(table, y)
    >>> model.predict({"size": [3.0, None], "colour": ["red", "blue"]}).tolist()
    ['yes', 'no']
    """

    numbers_: list[str]
    categories_: dict[str, list[str]]
    notes_: list[str]

    def __init__(self, estimator: Any, target: str = "target"):
        self.estimator, self.target = estimator, target
        self._mean, self._scale = 0.0, 1.0  # of a regression's target

    @property
    def regression(self) -> bool:
        """Whether the target is a number."""
        return type(self.estimator).__name__ == "MLPRegressor"

    @property
    def classes_(self) -> np.ndarray:
        """The classes, in the order of predict_proba's columns."""
        return self.estimator.classes_

    @property
    def n_features_(self) -> int:
        """The network's inputs."""
        return len(self.numbers_) + sum(map(len, self.categories_.values()))

    @property
    def sparse(self) -> bool:
        """Whether the network's inputs are a sparse matrix."""
        return len(self.numbers_) + len(self.categories_) < SPARSE_SHARE * self.n_features_

    # ---- fit -------------------------------------------------------------------------------------------------------

    def fit(self, table: Any, y: Any, **parameters: Any) -> "TableModel":
        """Fit transformers and network.

        Parameters
        ----------
        table : dict of columns, or a frame
            A column with the target's name is not used.
        y : array-like of shape (m,)
        **parameters
            Of the estimator's fit.

        Returns
        -------
        self
        """
        self.prepare(table)
        return self.fit_prepared(self.transform(table), y, **parameters)

    def prepare(self, table: Any) -> "TableModel":
        """Choose the columns and fit the transformers, but not the network."""
        columns = _columns(table)
        columns.pop(self.target, None)
        self.notes_, self.numbers_, self.categories_ = [], [], {}
        for name, values in columns.items():
            reason = _useless(name, values)
            if reason is not None:
                self.notes_.append(f"column {name!r} is left out: {reason}")
            elif values.dtype != object:
                self.numbers_.append(name)
            else:
                self.categories_[name] = self._choose_categories(name, values)
        if not self.numbers_ and not self.categories_:
            notes = "".join(f"; {note}" for note in self.notes_)
            raise ValueError(f"there is no column to predict {self.target!r} from{notes}")
        self._fit_numbers(columns)
        return self

    def _choose_categories(self, name: str, values: Column) -> list[str]:
        counts = Counter(values.tolist())
        texts = [text for text in counts if text]
        odd = [text for text in texts if not _is_numeric(text)]
        if sum(counts[text] for text in odd) < 0.5 * sum(counts[text] for text in texts):
            self.notes_.append(f"column {name!r} is taken as categories: {quoted(odd, 3)} is not a number")
        if len(counts) > MOST_CATEGORIES:
            self.notes_.append(f"column {name!r}: of {len(counts)} categories the most frequent {MOST_CATEGORIES} count")
        frequent = sorted(counts, key=lambda text: (-counts[text], text))[:MOST_CATEGORIES]
        return sorted(frequent)

    def _fit_numbers(self, columns: Table) -> None:
        from sklearn.impute import SimpleImputer
        from sklearn.preprocessing import StandardScaler

        found: list[list[np.ndarray]] = [[], [], [], []]
        for start in range(0, len(self.numbers_), 16):  # so many at a time, to save memory
            names = self.numbers_[start : start + 16]
            imputer, scaler = SimpleImputer(strategy="median"), StandardScaler()
            with np.errstate(over="ignore"):
                scaler.fit(imputer.fit_transform(_stack([columns[name] for name in names])))
            for name, variance in zip(names, scaler.var_):
                if not np.isfinite(variance):
                    raise ValueError(f"column {name!r} has numbers that are too large to be scaled")
            for parts, part in zip(found, (imputer.statistics_, scaler.mean_, scaler.scale_, scaler.var_)):
                parts.append(part)
        self._set_transformers(*(np.concatenate(parts) if parts else np.empty(0) for parts in found))

    def _set_transformers(
        self, medians: np.ndarray, means: np.ndarray, scales: np.ndarray, variances: np.ndarray
    ) -> None:
        """Transformers that are fitted to these numbers and to categories_."""
        from sklearn.impute import SimpleImputer
        from sklearn.preprocessing import OneHotEncoder, StandardScaler

        if len(medians):
            self._imputer = SimpleImputer(strategy="median").fit(medians[np.newaxis])  # the median of one is itself
            self._scaler = StandardScaler().fit(means[np.newaxis])
            self._scaler.mean_, self._scaler.scale_, self._scaler.var_ = means, scales, variances
        if self.categories_:
            known = [np.array(texts, object) for texts in self.categories_.values()]
            encoder = OneHotEncoder(categories=known, handle_unknown="ignore", dtype=np.float32)
            self._encoder = encoder.fit(np.array([[texts[0] for texts in known]], object))

    def fit_prepared(self, X: Any, y: Any, **parameters: Any) -> "TableModel":
        """Fit the network to what `transform` has given."""
        y = np.asarray(y)
        if len(np.unique(y)) < 2:
            raise ValueError(f"the target {self.target!r} has one value only, {spell(y[0])!r}; two are needed")
        if self.regression:
            y = y.astype(np.float64)
            self._mean, self._scale = float(y.mean()), float(y.std())
            y = (y - self._mean) / self._scale
        self.estimator.fit(X, y, **parameters)
        return self

    # ---- use -------------------------------------------------------------------------------------------------------

    def transform(self, table: Any) -> Any:
        """The network's inputs.

        Parameters
        ----------
        table : dict of columns, or a frame
            Columns that the model does not use may be there, or not.

        Returns
        -------
        X : ndarray or CSR matrix of shape (m, n_features_), float32
        """
        import scipy.sparse

        columns = _columns(table, {**dict.fromkeys(self.numbers_, False), **dict.fromkeys(self.categories_, True)})
        for name in self.numbers_:
            columns[name] = _as_numbers(name, columns[name])
        m = len(next(iter(columns.values())))
        blocks = [self._block(columns, slice(start, start + BLOCK)) for start in range(0, m, BLOCK)]
        if not blocks:
            return np.empty((0, self.n_features_), np.float32)
        return scipy.sparse.vstack(blocks, format="csr") if self.sparse else np.concatenate(blocks)

    def _block(self, columns: Table, rows: slice) -> Any:
        import scipy.sparse

        parts: list[Any] = []
        if self.numbers_:
            values = _stack([columns[name][rows] for name in self.numbers_])
            parts.append(self._scaler.transform(self._imputer.transform(values)).astype(np.float32))
        if self.categories_:
            texts = np.stack([columns[name][rows] for name in self.categories_], axis=1)
            parts.append(self._encoder.transform(texts))
        if self.sparse:
            return scipy.sparse.hstack([scipy.sparse.csr_matrix(part) for part in parts], format="csr")
        return np.hstack([part.toarray() if scipy.sparse.issparse(part) else part for part in parts])

    def predict(self, table: Any) -> np.ndarray:
        """Classes, or values in the target's unit.

        Parameters
        ----------
        table : dict of columns, or a frame

        Returns
        -------
        y : ndarray of shape (m,)
        """
        return self.predict_prepared(self.transform(table))

    def predict_prepared(self, X: Any) -> np.ndarray:
        """Predictions for what `transform` has given."""
        if X.shape[0] == 0:
            return np.empty(0) if self.regression else self.classes_[:0]
        predicted = self.estimator.predict(X)
        return self._mean + self._scale * predicted.astype(np.float64) if self.regression else predicted

    def predict_proba(self, table: Any) -> np.ndarray:
        """Probabilities of the classes.

        Parameters
        ----------
        table : dict of columns, or a frame

        Returns
        -------
        y : ndarray of shape (m, n_classes)
            In the order of classes_.
        """
        if self.regression:
            raise ValueError(f"{self.target!r} is a number; there are probabilities of classes only")
        X = self.transform(table)
        return self.estimator.predict_proba(X) if X.shape[0] else np.empty((0, len(self.classes_)), np.float32)

    # ---- files -----------------------------------------------------------------------------------------------------

    def pack(self) -> tuple[persistence.Values, persistence.Arrays]:
        """Values and arrays for `fastmlp.save`: the transformers as the numbers and categories they were fitted to."""
        kind, values, arrays = persistence.pack(self.estimator)
        arrays = {f"estimator.{name}": array for name, array in arrays.items()}
        if self.numbers_:
            arrays |= {"medians": self._imputer.statistics_, "means": self._scaler.mean_}
            arrays |= {"scales": self._scaler.scale_, "variances": self._scaler.var_}
        return {
            "estimator": {"kind": kind, "values": values},
            "target": {"name": self.target, "mean": self._mean, "scale": self._scale},
            "numbers": self.numbers_,
            "categories": list(self.categories_.items()),
        }, arrays

    @classmethod
    def unpack(cls, values: persistence.Values, arrays: persistence.Arrays) -> "TableModel":
        """The model that `pack` has taken apart."""
        prefix = "estimator."
        inner = {name[len(prefix) :]: array for name, array in arrays.items() if name.startswith(prefix)}
        kind = values["estimator"]["kind"]
        if kind not in ("MLPClassifier", "MLPRegressor"):
            raise ValueError(f"its estimator is {kind!r}; MLPClassifier and MLPRegressor are allowed")
        target = values["target"]
        model = cls(persistence.unpack(kind, values["estimator"]["values"], inner), target["name"])
        model._mean, model._scale = float(target["mean"]), float(target["scale"])
        model.numbers_ = [str(name) for name in values["numbers"]]
        model.categories_ = {str(name): [str(text) for text in texts] for name, texts in values["categories"]}
        model.notes_ = []
        names = ("medians", "means", "scales", "variances")
        fitted = [arrays[name] if model.numbers_ else np.empty(0) for name in names]
        if any(array.shape != (len(model.numbers_),) for array in fitted):
            raise ValueError(f"there are {len(model.numbers_)} columns of numbers, but not as many medians or scales")
        model._set_transformers(*fitted)
        if model.n_features_ != model.estimator.n_features_in_:
            raise ValueError(
                f"the columns give {model.n_features_} inputs; the network has {model.estimator.n_features_in_}"
            )
        return model


def _named_column(name: str, values: Any, as_text: bool) -> Column:
    try:
        return column(values, as_text)
    except ValueError as error:
        raise ValueError(f"column {name!r}: {error}") from None


def _columns(table: Any, wanted: dict[str, bool] | None = None) -> Table:
    """The columns of a dictionary or frame that are wanted, as text where that is True."""
    keys = {str(key): key for key in (table.columns if hasattr(table, "columns") else table)}
    if wanted is None:
        wanted = dict.fromkeys(keys, False)
    lacking = [name for name in wanted if name not in keys]
    if lacking:
        hint = did_you_mean(lacking[0], keys) if len(lacking) == 1 else ""
        raise ValueError(f"the table lacks {len(lacking)} column(s) of the model: {quoted(lacking)}{hint}")
    columns = {name: _named_column(name, table[keys[name]], text) for name, text in wanted.items()}
    lengths = sorted({len(values) for values in columns.values()})
    if len(lengths) > 1:
        raise ValueError(f"the columns have different lengths, from {lengths[0]} to {lengths[-1]}")
    return columns


def _stack(columns: Sequence[Column]) -> np.ndarray:
    return np.stack([values.astype(np.float64) for values in columns], axis=1)


def _as_numbers(name: str, values: Column) -> Column:
    """A column that a model has as numbers."""
    if values.dtype == object:
        try:
            values = parse(values.tolist())
        except ValueError:
            wrong = [row for row, text in enumerate(values, 1) if not _is_numeric(text)]
            more = f" ({len(wrong)} rows are like that)" if len(wrong) > 1 else ""
            raise ValueError(
                f"column {name!r}, row {wrong[0]}: {values[wrong[0] - 1]!r} is not a number{more}"
            ) from None
    infinite = np.flatnonzero(np.isinf(values))
    if len(infinite):
        raise ValueError(f"column {name!r}, row {infinite[0] + 1}: {values[infinite[0]]} is not a finite number")
    return values


def _useless(name: str, values: Column) -> str | None:
    """Why a column cannot help a prediction; None if it may."""
    if values.dtype == object:
        counts = Counter(values.tolist())
        rows, distinct = len(values) - counts[""], len(counts) - ("" in counts)
        if rows == 0:
            return "it has no values"
        if len(counts) == 1:
            return f"it has one value only, {values[0]!r}"
        return "nearly every row has a text of its own" if distinct > IDENTIFIER_SHARE * rows else None
    known = _as_numbers(name, values)
    known = known[~np.isnan(known)]
    if len(known) == 0:
        return "it has no values"
    if np.all(known == known[0]):
        return f"it has one value only, {spell(float(known[0]))}"
    if IDENTIFIER.fullmatch(name) and np.all(known == np.floor(known)) and len(np.unique(known)) == len(values):
        return "by its name and values it numbers the rows"
    return None

