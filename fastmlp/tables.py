"""Networks for tables: columns scaled and encoded by scikit-learn, and saved with the network without any code.

`tablefiles.py` says what a table is, and reads one; pandas' and polars' frames are tables, too.
"""

import re
import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastmlp import persistence
from fastmlp.tablefiles import (
    Column,
    Table,
    did_you_mean,
    is_numeric,
    named_column,
    one_spelling,
    parse,
    quoted,
    spell,
)

BLOCK = 10_000  # rows that are scaled and encoded at a time
MOST_CATEGORIES = 100  # of a column; the rarer ones are not told apart
MOST_CLASSES = 20  # distinct whole numbers in a target that are taken as classes
IDENTIFIER_SHARE = 0.9  # distinct texts a row, beyond which they name the rows
SPARSE_SHARE = 0.2  # of entries that are not 0, below which X is a sparse matrix
UNSEEN_SHARE = 0.5  # of a column's entries in categories that training did not see, beyond which there is a warning
WHOLE = re.compile(r"(-?0|-?[1-9][0-9]{0,17})(\.0*)?")
IDENTIFIER = re.compile(r"(.*[ _.-])?(id|idx|index|key|no|nr|row|rownum)|column \d+|unnamed: \d+", re.IGNORECASE)


# ---- targets -------------------------------------------------------------------------------------------------------


def choose_task(texts: Column) -> tuple[str, str]:
    """ "classification" or "regression", and why, by what a target's column has.

    Regression where all entries are numbers, unless they are whole, of at most 20 kinds, and each is met twice on
    average.
    """
    try:
        values = parse(sorted(set(texts.tolist())))
    except ValueError:
        return "classification", "the target has text"
    if not np.all(values == np.floor(values)):
        return "regression", "the target has numbers that are not whole"
    distinct = set(labels_of(texts).tolist())
    if len(distinct) <= MOST_CLASSES and 2 * len(distinct) <= len(texts):
        return "classification", f"the target has {len(distinct)} whole numbers"
    return "regression", f"the target has {len(distinct)} different numbers"


def numbers_of(texts: Column, name: str) -> np.ndarray:
    """A regression's target."""
    try:
        values = parse(texts.tolist())
    except ValueError:
        wrong = next(text for text in texts if not is_numeric(text))
        raise ValueError(f"the target {name!r} has {wrong!r}, which is not a number, as regression needs") from None
    if not np.isfinite(values).all():
        raise ValueError(f"the target {name!r} has numbers that are not finite")
    return values


def labels_of(texts: Column) -> np.ndarray:
    """Classes: integers where all are whole numbers, 1.0 being 1, without leading zeros; else as they are spelled."""
    found = {text: WHOLE.fullmatch(text) for text in set(texts.tolist())}
    values = {text: int(match[1]) for text, match in found.items() if match}
    if len(values) < len(found):
        return texts.astype(str)
    return np.array([values[text] for text in texts], np.int64)


def labels_like(texts: Column, classes: np.ndarray) -> np.ndarray:
    """Labels to compare with those of a model: each is the class of the same value, however it is spelled."""
    known = {one_spelling(str(label)): label for label in classes.tolist()}
    known |= {str(label): label for label in classes.tolist()}  # as it is spelled comes first
    none = int(classes.max()) + 1 if classes.dtype.kind in "iu" else None  # a label that no prediction is equal to
    values = {text: known.get(text, known.get(one_spelling(text), none)) for text in set(texts.tolist())}
    labels = [text if values[text] is None else values[text] for text in texts.tolist()]
    return np.array(labels, str if none is None else np.int64)


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
    training did not see, are nothing. TRUE and True, 1.0 and 1 are one category, so that a file and its frame are the
    same. Left out are columns of a single value, columns without any, and those that name the rows. A regression's
    target is scaled for the training; predictions are in its own unit.

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
            if values.dtype == object:
                values = _one_spelling(values)
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
        if len(counts) > MOST_CATEGORIES:
            self.notes_.append(f"column {name!r} has {len(counts)} categories; {MOST_CATEGORIES} are told apart")
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
        if y.shape != (X.shape[0],):
            raise ValueError(f"y has shape {y.shape}; ({X.shape[0]},) is allowed, one for each row of the table")
        if len(np.unique(y)) < 2:
            raise ValueError(f"the target {self.target!r} has one value only, {spell(y[0])!r}; two are needed")
        if self.regression:
            y = y.astype(np.float64)
            self._mean, self._scale = float(y.mean()), float(y.std())
            y = self.scaled(y)
        self.estimator.fit(X, y, **parameters)
        return self

    def scaled(self, y: np.ndarray) -> np.ndarray:
        """A regression's target as the network is trained on it."""
        return (y - self._mean) / self._scale

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
        for name, known in self.categories_.items():
            columns[name] = _one_spelling(columns[name])
            _warn_of_unseen(name, columns[name], known)
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
    def unpack(
        cls, values: persistence.Values, arrays: persistence.Arrays, pieces: persistence.Values
    ) -> "TableModel":
        """The model that `pack` has taken apart; pieces as for `persistence.unpack`."""
        prefix = "estimator."
        inner = {name[len(prefix) :]: array for name, array in arrays.items() if name.startswith(prefix)}
        kind = values["estimator"]["kind"]
        if kind not in ("MLPClassifier", "MLPRegressor"):
            raise ValueError(f"its estimator is {kind!r}; MLPClassifier and MLPRegressor are allowed")
        target = values["target"]
        model = cls(persistence.unpack(kind, values["estimator"]["values"], inner, pieces), target["name"])
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


def _columns(table: Any, wanted: dict[str, bool] | None = None) -> Table:
    """The columns of a dictionary or frame that are wanted, as text where that is True."""
    keys = {str(key): key for key in (table.columns if hasattr(table, "columns") else table)}
    if wanted is None:
        wanted = dict.fromkeys(keys, False)
    lacking = [name for name in wanted if name not in keys]
    if lacking:
        hint = did_you_mean(lacking[0], keys) if len(lacking) == 1 else ""
        raise ValueError(f"the table lacks {len(lacking)} column(s) of the model: {quoted(lacking)}{hint}")
    columns = {name: named_column(name, table[keys[name]], text) for name, text in wanted.items()}
    lengths = sorted({len(values) for values in columns.values()})
    if len(lengths) > 1:
        raise ValueError(f"the columns have different lengths, from {lengths[0]} to {lengths[-1]}")
    return columns


def _one_spelling(values: Column) -> Column:
    """A column of text in which a value is spelled the same wherever the table comes from."""
    spelled = {text: one_spelling(text) for text in set(values.tolist())}
    return np.array([spelled[text] for text in values.tolist()], object)


def _warn_of_unseen(name: str, values: Column, known: list[str]) -> None:
    if len(known) >= MOST_CATEGORIES:  # training has seen others, too
        return
    counts = Counter(values.tolist())
    for text in ("", *known):
        del counts[text]
    share = counts.total() / max(len(values), 1)
    if share > UNSEEN_SHARE:
        warnings.warn(
            f"column {name!r}: {share:.0%} of the entries are categories that training did not see, such as "
            f"{quoted(counts, 3)}; it knows {quoted(known, 3)}",
            UserWarning,
            stacklevel=4,
        )


def _stack(columns: Sequence[Column]) -> np.ndarray:
    return np.stack([values.astype(np.float64) for values in columns], axis=1)


def _as_numbers(name: str, values: Column) -> Column:
    """A column that a model has as numbers."""
    if values.dtype == object:
        try:
            values = parse(values.tolist())
        except ValueError:
            wrong = [row for row, text in enumerate(values, 1) if not is_numeric(text)]
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
