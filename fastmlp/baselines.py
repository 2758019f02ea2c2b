"""The lecture's baselines: "It is not perfect: compare against randomized features, nearest-neighbors, linear models."

scikit-learn does the work, and is imported only when a comparison is asked for.
"""

import contextlib
import dataclasses
import html
import itertools
import math
import re
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np

from fastmlp.conversion import nested
from fastmlp.network import Network

__all__ = ["Comparison", "Row", "compare_baselines", "compare_fitted", "fit_network"]

NETWORK = "multilayer network"
REPRESENTATION = "linear model on the representation"
NEIGHBOURS = (1, 3, 5, 10, 20)
FOURIER_FEATURES = 500
LINEAR_ITERATIONS = 1000  # at most
RIDGE_PENALTIES = tuple(10.0**power for power in range(-3, 4))
RIDGE_ROWS = 3000  # of more the penalty is 1: choosing it decomposes a matrix of as many rows where columns are more


# ---- what is found -------------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """How one model did.

    Attributes
    ----------
    name : str
    scores : tuple of float
        One for each split.
    score : float
        Their mean.
    spread : float
        Their standard deviation (of a sample: n - 1); of a single split the standard error over its test examples, NaN
        where `scoring` was given.
    fit_seconds, predict_seconds : float
        Means over the splits, preprocessing included.
    """

    name: str
    scores: tuple[float, ...]
    score: float
    spread: float
    fit_seconds: float
    predict_seconds: float


@dataclasses.dataclass(frozen=True, repr=False)
class Comparison:
    """A network beside the baselines: a sequence of rows that prints as a table.

    Attributes
    ----------
    rows : tuple of Row
        Always in the order from the simplest model to the network.
    metric : str
        "accuracy" or "R^2", or what `scoring` was.
    network : str
        The name of the network's row.
    standard_error : float
        Of the network's lead over the best baseline; NaN where it is not known.
    left_out : dict of str to str
        The baselines that failed, and why.
    notes : tuple of str
        What else is to be known of the fits.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from fastmlp import MLPClassifier, compare_baselines
    >>> X, y = load_iris(return_X_y=True)
    >>> network = MLPClassifier((8,), solver="lbfgs", alpha=0.1, max_iter=1000, random_state=0)
    >>> comparison = compare_baselines(network, X, y, cv=3)
    >>> [row.name for row in comparison][:3]
    ['most frequent class', 'linear model', 'nearest neighbours']
    >>> comparison.to_array()["score"].round(2)[:3]
    array([0.32, 0.95, 0.96])
    """

    rows: tuple[Row, ...]
    metric: str
    network: str
    standard_error: float
    left_out: dict[str, str]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __getitem__(self, index: Any) -> Any:
        return self.rows[index]

    @property
    def best_baseline(self) -> Row | None:
        """The baseline with the highest score, of equal ones the simplest; a representation that is learned is none."""
        return _best(row for row in self.rows if row.name not in (self.network, REPRESENTATION))

    @property
    def verdict(self) -> str:
        """Whether the network earned its keep, in one sentence with the numbers.

        It did when it leads the best baseline by more than one standard error, and did not when it trails by more than
        that; between the two it is too close to call. Of one split with `scoring`, or so few test examples that their
        standard error is 0, no more is said than which of the two leads. The times tell what it cost.
        """
        best = self.best_baseline
        if best is None:
            return "There is no verdict, for no baseline could be fitted."
        network = next(row for row in self.rows if row.name == self.network)
        lead = network.score - best.score
        if not math.isfinite(lead):
            return f"There is no verdict, for {self.metric} is not a finite number on these splits."
        subject = "the network" if self.network == NETWORK else f"the {self.network}"
        known = math.isfinite(self.standard_error) and (self.standard_error > 0 or len(network.scores) > 1)
        if abs(lead) <= (self.standard_error if known else 0):
            opening = f"it is too close to call whether {subject} earned its keep"
        elif not known:
            opening = f"{subject} {'leads' if lead > 0 else 'trails'}, but how much of it is chance is not known"
            opening += " (several splits tell)"
        else:
            opening = f"{subject} {'earned' if lead > 0 else 'did not earn'} its keep"
        digits = ".3f" if self.metric in ("accuracy", "R^2") else ".4g"
        difference = f"difference {lead:+{digits}}" + (f" +- {self.standard_error:{digits}}" if known else "")
        wins = sum(ours > theirs for ours, theirs in zip(network.scores, best.scores))
        splits = f"better on {wins} of {len(network.scores)} splits, " if len(network.scores) > 1 else ""
        ratio = (network.fit_seconds + network.predict_seconds) / (best.fit_seconds + best.predict_seconds)
        return (
            f"{opening[0].upper()}{opening[1:]}: {self.metric} {network.score:{digits}} against {best.score:{digits}} "
            f"of the {best.name} ({difference}), {splits}{_pace(ratio)}."
        )

    def to_array(self) -> np.ndarray:
        """The rows as a structured array of shape (len(self),): name, score, spread, fit_seconds, predict_seconds.

        `pandas.DataFrame(comparison.to_array())` is a frame of them.
        """
        width = max(len(row.name) for row in self.rows)
        numbers = [(name, np.float64) for name in ("score", "spread", "fit_seconds", "predict_seconds")]
        return np.array([(row.name, *row[2:]) for row in self.rows], [("name", f"U{width}"), *numbers])

    def plot(self, ax: Any = None) -> Any:
        """Draw it, with matplotlib.

        Parameters
        ----------
        ax : matplotlib Axes, optional

        Returns
        -------
        display : BaselineDisplay
        """
        from fastmlp.displays import BaselineDisplay  # which needs matplotlib

        return BaselineDisplay(self).plot(ax=ax)

    def _cells(self) -> list[tuple[str, ...]]:
        """The table as text, its header first."""
        digits = ".4f" if self.metric in ("accuracy", "R^2") else ".5g"
        measure = f"test {self.metric}"
        cells: list[tuple[str, ...]] = [("", measure, "spread", "fit s", "predict s")]
        for name, _, score, spread, fit_seconds, predict_seconds in self.rows:
            numbers = f"{score:{digits}}", f"{spread:{digits}}", _seconds(fit_seconds), _seconds(predict_seconds)
            cells.append((name, *numbers))
        return cells

    def _notes(self) -> list[str]:
        left_out = (f"no score of {name}: {reason}" for name, reason in self.left_out.items())
        return [f"note: {note}" for note in (*left_out, *self.notes)]

    def __str__(self) -> str:
        cells = self._cells()
        first, *others = (max(map(len, column)) for column in zip(*cells))
        lines = [
            name.ljust(first) + "".join(cell.rjust(width + 3) for cell, width in zip(numbers, others))
            for name, *numbers in cells
        ]
        return "\n".join([*lines, *self._notes(), "", self.verdict])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        header, *rows = ([html.escape(cell) for cell in cells] for cells in self._cells())
        lines = ["<table>", "<thead><tr><th>" + "</th><th>".join(header) + "</th></tr></thead>", "<tbody>"]
        for row, (name, *numbers) in zip(self.rows, rows):
            name = f"<strong>{name}</strong>" if row.name == self.network else name
            lines.append(f"<tr><th>{name}</th><td>" + "</td><td>".join(numbers) + "</td></tr>")
        paragraphs = [f"<p>{html.escape(text)}</p>" for text in (*self._notes(), self.verdict)]
        return "\n".join([*lines, "</tbody>", "</table>", *paragraphs])


def _pace(ratio: float) -> str:
    """In words, of the network's time to the baseline's."""
    if 0.9 < ratio < 1.1:
        return "as fast"
    times, word = (ratio, "slower") if ratio > 1 else (1 / ratio, "faster")
    return f"{float(f'{times:.2g}'):g} times {word}"


def _seconds(value: float) -> str:
    """With three significant digits, and no exponent."""
    value = float(f"{value:.3g}")
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}" if value > 0 else "0"


def _best(rows: Iterable[Row]) -> Row | None:
    return max(rows, key=lambda row: row.score if math.isfinite(row.score) else -math.inf, default=None)


# ---- what is compared ----------------------------------------------------------------------------------------------


def _last(model: Any) -> Any:
    """The estimator that a pipeline, a transformed target or a search is around."""
    return nested(model)[-1]


def _with_last(model: Any, last: Any) -> Any:
    """An unfitted copy of the model with another estimator in that place; a search's parameters are the best found."""
    from sklearn.base import clone
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.model_selection._search import BaseSearchCV
    from sklearn.pipeline import Pipeline

    if isinstance(model, Pipeline):
        name, step = model.steps[-1]
        return clone(model).set_params(**{name: _with_last(step, last)})
    if isinstance(model, TransformedTargetRegressor):
        inner = _with_last(getattr(model, "regressor_", model.regressor), last)
        return clone(model).set_params(regressor=inner)
    if isinstance(model, BaseSearchCV):
        return _with_last(getattr(model, "best_estimator_", model.estimator), last)
    return clone(last)


def _random_layers(X: Any, sizes: list[int], activation: Any, init: str, seed: int) -> np.ndarray:
    """What hidden layers put out (eq. 7) with the random weights that an estimator's training starts from."""
    X = X.tocsr() if hasattr(X, "tocsr") else X
    rng = np.random.default_rng(seed)
    dtype = "float32" if X.dtype == np.float32 else "float64"
    network = Network([X.shape[1], *sizes, 1], activation, init=init, dtype=dtype, random_state=rng)
    if init == "glorot":  # whose biases are random in the estimators, as in scikit-learn's
        bounds = [math.sqrt(6 / (n_in + n_out)) for n_in, n_out in zip(network.sizes, network.sizes[1:])]
        network.biases = [rng.uniform(-bound, bound, b.shape) for bound, b in zip(bounds, network.biases)]
    return network.transform(X)


def _random_layer(last: Any, seed: int) -> Any:
    """Random hidden layers of the network's own shape, as a transformer; None where it has none."""
    from sklearn.preprocessing import FunctionTransformer

    sizes = [int(n) for n in np.atleast_1d(getattr(last, "hidden_layer_sizes", ()))]
    settings = {"sizes": sizes, "seed": seed, "init": getattr(last, "init", "glorot")}
    settings["activation"] = getattr(last, "activation", "relu")
    return FunctionTransformer(_random_layers, validate=True, accept_sparse=True, kw_args=settings) if sizes else None


def _linear(regression: bool, multilabel: bool, m: int, class_weight: Any) -> Any:
    """A linear model to which the units of what it sees do not matter, for m examples to train on."""
    import scipy.sparse
    from sklearn.base import BaseEstimator, TransformerMixin
    from sklearn.linear_model import LogisticRegression, Ridge, RidgeCV
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MaxAbsScaler, StandardScaler

    class Scaler(TransformerMixin, BaseEstimator):  # type: ignore[misc]
        """To mean 0 and variance 1; columns of a sparse matrix to a largest of 1, lest rare words dwarf the others."""

        def fit(self, X: Any, y: Any = None) -> Any:
            self.scaler_ = (MaxAbsScaler() if scipy.sparse.issparse(X) else StandardScaler()).fit(X)
            return self

        def transform(self, X: Any) -> Any:
            return self.scaler_.transform(X)

    if regression:
        return make_pipeline(Scaler(), RidgeCV(RIDGE_PENALTIES) if m <= RIDGE_ROWS else Ridge())
    if isinstance(class_weight, str):
        class_weight = "balanced"  # a forest's "balanced_subsample", too
    model = LogisticRegression(max_iter=LINEAR_ITERATIONS, class_weight=None if multilabel else class_weight)
    return make_pipeline(Scaler(), OneVsRestClassifier(model) if multilabel else model)


def _baselines(layer: Any, regression: bool, linear: Any, m: int, scoring: Any, seed: int) -> dict[str, Any]:
    """Name and unfitted estimator of each baseline, from the simplest on, for m examples to train on."""
    from sklearn.dummy import DummyClassifier, DummyRegressor
    from sklearn.kernel_approximation import RBFSampler
    from sklearn.model_selection import GridSearchCV, ShuffleSplit
    from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
    from sklearn.pipeline import Pipeline, make_pipeline

    held_out = max(1, min(m // 3, 1000))  # few enough that choosing takes no longer than predicting
    nearest = KNeighborsRegressor() if regression else KNeighborsClassifier()
    neighbours = GridSearchCV(
        Pipeline([("scale", "passthrough"), ("model", nearest)]),
        {
            "model__n_neighbors": [k for k in NEIGHBOURS if k <= max(1, m - held_out)],
            "scale": ["passthrough", linear[0]],  # distances depend on the units
        },
        cv=ShuffleSplit(3, test_size=held_out, random_state=seed),
        scoring=scoring,
        error_score="raise",
    )
    fourier = RBFSampler(gamma="scale", n_components=FOURIER_FEATURES, random_state=seed)
    found = {
        "mean of the target" if regression else "most frequent class": (
            DummyRegressor() if regression else DummyClassifier()
        ),
        "linear model": linear,
        "nearest neighbours": neighbours,
        "randomized features": make_pipeline(fourier, linear),
    }
    return found if layer is None else found | {"random hidden layer": make_pipeline(layer, linear)}


# ---- the comparison ------------------------------------------------------------------------------------------------


class _Split(NamedTuple):
    X_train: Any
    y_train: Any
    X_test: Any
    y_test: Any


class _Metric:
    """What is scored: accuracy or R^2, of which single examples have their shares, or scikit-learn's scorer."""

    def __init__(self, estimator: Any, scoring: Any, regression: bool):
        from sklearn.metrics import accuracy_score, check_scoring, r2_score

        self.regression = regression
        self.name = "R^2" if regression else "accuracy"
        self._score = r2_score if regression else accuracy_score
        self._scorer = None
        if scoring is not None:
            if not (isinstance(scoring, str) or callable(scoring)):
                raise ValueError(f"scoring is {scoring!r}; None, a name or a callable is allowed")
            self._scorer = check_scoring(estimator, scoring=scoring)
            self.name = scoring if isinstance(scoring, str) else getattr(scoring, "__name__", "score")

    def score(self, model: Any, X: Any, y: Any, predicted: Any) -> float:
        return float(self._score(y, predicted) if self._scorer is None else self._scorer(model, X, y))

    def shares(self, y: Any, predicted: Any) -> np.ndarray:
        """What each example adds to the score, (m,): the mean is the score. NaN where that is not known."""
        y, predicted = (np.asarray(values).reshape(len(values), -1) for values in (y, predicted))
        if self._scorer is not None:
            return np.full(len(y), np.nan)
        if not self.regression:
            return (y == predicted).all(axis=1).astype(np.float64)
        y, predicted = y.astype(np.float64), predicted.astype(np.float64)
        variance = y.var(axis=0)
        variance[variance == 0] = np.nan
        return (1 - (y - predicted) ** 2 / variance).mean(axis=1)


class _Measured(NamedTuple):
    row: Row
    models: list[Any]
    n_train: int  # on the smallest split
    test_share: float  # n_test / n_train, mean over the splits
    shares: np.ndarray | None  # of the test examples, where there is one split


def fit_network(model: Any, X: Any, y: Any) -> Any:
    """Fit, and let Ctrl-C be what it is elsewhere: the estimators take it as an early end, with a warning."""
    message = "Training interrupted by user"
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message)
        try:
            return model.fit(X, y)
        except UserWarning as warning:
            if message in str(warning):
                raise KeyboardInterrupt from None
            raise


@contextlib.contextmanager
def _collected(warned: list[Any]) -> Iterator[None]:
    """Put the ConvergenceWarnings of what runs inside into a list; others are shown as they come."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("always", ConvergenceWarning)
        show = warnings.showwarning

        def sort(message: Any, category: type[Warning], *place: Any, **to: Any) -> None:
            if issubclass(category, ConvergenceWarning):
                warned.append(message)
            else:
                show(message, category, *place, **to)

        warnings.showwarning = sort
        yield


def _not_ended(last: Any) -> str:
    """A note on the estimator whose fit had not converged."""
    if not hasattr(last, "hidden_layer_sizes"):
        return f"the fit of the {type(last).__name__} had not converged"
    unit = "iterations" if getattr(last, "solver", None) == "lbfgs" else "epochs"
    return f"the network's training had not ended after max_iter={last.max_iter} {unit}"


def _measure(name: str, models: Iterable[Any], splits: Iterable[_Split], metric: _Metric) -> _Measured:
    """Fit one model a split, predict and score."""
    scores: list[float] = []
    seconds: list[tuple[float, float]] = []
    sizes: list[tuple[int, int]] = []
    fitted: list[Any] = []
    for model, (X_train, y_train, X_test, y_test) in zip(models, splits):
        start = time.perf_counter()
        fit_network(model, X_train, y_train)
        middle = time.perf_counter()
        predicted = model.predict(X_test)
        seconds.append((middle - start, time.perf_counter() - middle))
        scores.append(metric.score(model, X_test, y_test, predicted))
        sizes.append((len(y_train), len(y_test)))
        fitted.append(model)
    if len(scores) > 1:
        shares, spread = None, float(np.std(scores, ddof=1))
    else:
        shares = metric.shares(y_test, predicted)
        spread = float(shares.std() / math.sqrt(len(shares)))
    fit_seconds, predict_seconds = np.mean(seconds, axis=0).tolist()
    row = Row(name, tuple(scores), float(np.mean(scores)), spread, fit_seconds, predict_seconds)
    return _Measured(row, fitted, min(sizes)[0], float(np.mean([test / train for train, test in sizes])), shares)


def _standard_error(network: _Measured, baseline: _Measured) -> float:
    """Of the difference of the two scores.

    Over k splits that of the corrected resampled t statistic, sqrt((1 / k + n_test / n_train) s^2) (Nadeau and Bengio,
    Inference for the generalization error, 2003): the splits share examples to train on, so that s^2 / k is too small.
    On one split that of the mean over its test examples, in pairs.
    """
    if network.shares is not None and baseline.shares is not None:
        differences = network.shares - baseline.shares
        return float(differences.std() / math.sqrt(len(differences)))
    differences = np.subtract(network.row.scores, baseline.row.scores)
    return float(math.sqrt(1 / len(differences) + network.test_share) * differences.std(ddof=1))


def _check_estimator(estimator: Any, representation: bool) -> None:
    from sklearn.base import is_classifier, is_regressor

    if isinstance(estimator, Network):
        raise TypeError(
            "estimator is a Network; MLPClassifier or MLPRegressor, which can be trained anew on each split, is allowed"
        )
    if isinstance(estimator, type) or not hasattr(estimator, "fit"):
        found = estimator.__name__ if isinstance(estimator, type) else type(estimator).__name__
        kind = "a class" if isinstance(estimator, type) else "no estimator"
        raise TypeError(f"estimator is {found}, {kind}; a scikit-learn classifier or regressor is allowed")
    if not (is_classifier(estimator) or is_regressor(estimator)):
        found = type(estimator).__name__
        raise TypeError(f"estimator is {found}, which predicts nothing; a classifier or regressor is allowed")
    last = _last(estimator)
    if representation and not (hasattr(last, "transform") and _random_layer(last, 0) is not None):
        found = type(last).__name__
        raise ValueError(
            f"representation is {representation} and estimator a {found} without a hidden layer to take it from; "
            "an MLPClassifier or MLPRegressor with one is allowed"
        )


def _make_splits(
    X: Any, y: Any, cv: Any, test: Any, classifier: bool, metric: str, seed: int
) -> Callable[[], Iterator[_Split]]:
    """A function that goes through the splits, the same each time it is called."""
    from sklearn.model_selection import check_cv
    from sklearn.utils import _safe_indexing, indexable

    X, y = indexable(X, y)
    if test is not None:
        if cv is not None:
            raise ValueError(f"cv is {cv!r} and test is given; one of the two is allowed")
        try:
            X_test, y_test = test
        except (TypeError, ValueError):
            raise ValueError("test is not a pair; (X, y) is allowed") from None
        X_test, y_test = indexable(X_test, y_test)
        if len(y_test) == 0:
            raise ValueError("test has no examples; at least one is allowed")
        return lambda: iter([_Split(X, y, X_test, y_test)])
    cv = 5 if cv is None else cv
    try:
        folds = check_cv(cv, y, classifier=classifier)
        if isinstance(cv, Integral):
            folds = type(folds)(folds.n_splits, shuffle=True, random_state=seed)
        rows = list(folds.split(X, y))
    except ValueError as error:
        raise ValueError(f"cv is {cv!r}, by which {len(y)} examples cannot be split: {error}") from None
    if not rows:
        raise ValueError("cv has no splits; at least one is allowed")
    if metric in ("R^2", "r2") and any(np.size(test) < 2 for _, test in rows if np.asarray(test).dtype != bool):
        raise ValueError(f"cv is {cv!r}, by which a fold has one example to test on; R^2 needs two or more")

    def splits() -> Iterator[_Split]:
        for parts in rows:
            yield _Split(*(_safe_indexing(data, part) for part in parts for data in (X, y)))

    return splits


def _warm_up(estimator: Any, layer: Any, split: _Split) -> None:
    """Compile before the clock runs: one epoch of the network, one pass through the random layers."""
    from sklearn.base import clone, is_classifier
    from sklearn.dummy import DummyClassifier, DummyRegressor
    from sklearn.pipeline import make_pipeline

    from fastmlp.estimators import MLPClassifier, MLPRegressor

    last = _last(estimator)
    if isinstance(last, (MLPClassifier, MLPRegressor)):
        brief = clone(last).set_params(max_iter=1, verbose=False)
        fit_network(_with_last(estimator, brief), split.X_train, split.y_train).predict(split.X_test)
    if layer is not None:
        with contextlib.suppress(Exception):  # it is named when the clock runs
            simplest = DummyClassifier() if is_classifier(estimator) else DummyRegressor()
            model = _with_last(estimator, make_pipeline(layer, simplest))
            model.fit(split.X_train, split.y_train).predict(split.X_test)


def compare_baselines(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    cv: Any = None,
    test: tuple[Any, Any] | None = None,
    scoring: Any = None,
    representation: bool = False,
    random_state: Any = 0,
) -> Comparison:
    """Compare a network with simpler models on the same splits, and say whether it earned its keep.

    The baselines, from the simplest on: the most frequent class (the mean of the target); a linear model (logistic
    regression, ridge regression); nearest neighbours, of which 1, 3, 5, 10 or 20, and whether by distances in X scaled
    or as it is, by validation within the examples to train on; randomized features, 500 random Fourier features (Rahimi
    and Recht, Random features for large-scale kernel machines, 2007) before a linear model; a random hidden layer, the
    hidden layers of the network's own shape with random weights as training starts from, before a linear model on what
    they put out: the network with only its last layer trained.

    Parameters
    ----------
    estimator : MLPClassifier, MLPRegressor, or a scikit-learn classifier or regressor
        Fitted or not: clones are fitted, and it is left as it is. In a Pipeline, TransformedTargetRegressor or search
        (GridSearchCV and the like) the baselines take the place of the last step, so that they see what the network
        sees; else all see X as it is. What has no hidden_layer_sizes, or none in them, has no random hidden layer
        beside it. One that is to be compared as it was fitted goes into a sklearn.frozen.FrozenEstimator, with `test`.
    X : array-like, sparse matrix or frame of shape (m, n_features)
    y : array-like of shape (m,) or (m, n_outputs)
        Labels (also several a row, as 0 and 1) or numbers.
    cv : int, splitter or iterable of (train, test), optional
        As in scikit-learn; 5 when neither this nor test is given. A number of folds is stratified for classes, and
        shuffled; groups come as the splits that a splitter makes of them.
    test : (X, y), optional
        In place of cv: one fit to X and y, scored on these examples.
    scoring : str or callable, optional
        scikit-learn's, higher being better; accuracy or R^2 when not given. The neighbours are chosen by it, too.
    representation : bool, default=False
        Whether to show a linear model on the network's last hidden layer after training, to be read beside the linear
        model on X. Its time to fit has the network's in it.
    random_state : int, RandomState or None, default=0
        Of folds and random features. The network has its own.

    Returns
    -------
    comparison : Comparison
        Prints as a table with the verdict: the network earned its keep when it leads the best baseline by more than
        one standard error. See `rows`, `verdict`, `to_array`, `plot`.

    Raises
    ------
    TypeError
        When estimator is no classifier or regressor.
    ValueError
        When another argument is wrong. Errors of the network's fit are raised; a baseline that fails is left out.

    Notes
    -----
    Every linear model scales what it sees, for its penalty depends on the units: columns to mean 0 and variance 1,
    those of a sparse matrix to a largest absolute value of 1. The penalty is 1; ridge regression chooses it from 0.001
    to 1000 by leave-one-out validation where there are no more than 3000 examples to train on. The Fourier features are
    of X as it is, whose overall variance sets their width, and the random hidden layer sees X as it is, as the network
    does: where the columns have different units, a StandardScaler belongs before the network, in a Pipeline.

    The network's class_weight is the linear models', too, but for several labels a row; the neighbours take none. There
    is no sample_weight, for not all of the models take one.

    Kernels are compiled before the clock runs. That the network's training had not converged is noted under the table
    in place of warnings; the linear models' warnings of it are not shown.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp import MLPRegressor, compare_baselines
    >>> X = np.random.default_rng(0).choice([-1.0, 1.0], (400, 8))
    >>> network = MLPRegressor(hidden_layer_sizes=(16,), solver="lbfgs", alpha=0.1, max_iter=1000, random_state=0)
    >>> comparison = compare_baselines(network, X, X[:, 0] * X[:, 1], cv=3)
    >>> comparison.verdict.split(":")[0]
    'The network earned its keep'
    """
    from sklearn.base import clone, is_classifier
    from sklearn.frozen import FrozenEstimator
    from sklearn.pipeline import make_pipeline
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import type_of_target

    _check_estimator(estimator, representation)
    estimator = clone(estimator)
    regression = not is_classifier(estimator)
    metric = _Metric(estimator, scoring, regression)
    drawn = check_random_state(random_state)
    seed = int(random_state if isinstance(random_state, Integral) else drawn.randint(2**31 - 1))
    splits = _make_splits(X, y, cv, test, not regression, metric.name, seed)
    last = _last(estimator)
    layer = _random_layer(last, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _warm_up(estimator, layer, next(splits()))

    name = NETWORK if hasattr(last, "hidden_layer_sizes") else type(last).__name__
    not_converged: list[Any] = []
    with _collected(not_converged):
        network = _measure(name, (clone(estimator) for _ in itertools.count()), splits(), metric)
    multilabel = not regression and type_of_target(y) == "multilabel-indicator"
    linear = _linear(regression, multilabel, network.n_train, getattr(last, "class_weight", None))
    found, left_out = [], {}
    for simpler, model in _baselines(layer, regression, linear, network.n_train, scoring, seed).items():
        models = (_with_last(estimator, model) for _ in itertools.count())
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found.append(_measure(simpler, models, splits(), metric))
        except Exception as error:  # the others stand, whatever this one makes of the data
            reason = re.sub(r"np\.\w+\((.*?)\)", r"\1", " ".join(str(error).split()))  # np.float64(0.0) is 0.0
            left_out[simpler] = reason or type(error).__name__
    rows = [measured.row for measured in found]
    best = _best(rows)
    standard_error = math.nan
    if best is not None:
        standard_error = _standard_error(network, next(measured for measured in found if measured.row is best))
    if representation:
        learned = [_with_last(model, make_pipeline(FrozenEstimator(_last(model)), linear)) for model in network.models]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            row = _measure(REPRESENTATION, learned, splits(), metric).row
        rows.append(row._replace(fit_seconds=row.fit_seconds + network.row.fit_seconds))
    notes = (_not_ended(_last(network.models[0])),) if not_converged else ()
    return Comparison((*rows, network.row), metric.name, name, standard_error, left_out, notes)


def compare_fitted(
    estimator: Any, fit_seconds: float, X: Any, y: Any, test: tuple[Any, Any], random_state: int
) -> Comparison:
    """`compare_baselines` beside an estimator as it was fitted, to X and y or more, in so many seconds."""
    from sklearn.frozen import FrozenEstimator

    found = compare_baselines(FrozenEstimator(estimator), X, y, test=test, random_state=random_state)
    *others, network = found
    return dataclasses.replace(found, rows=(*others, network._replace(fit_seconds=fit_seconds)))
