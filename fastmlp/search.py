"""MLPSearchCV: scikit-learn's searches for hyper-parameters, with the networks of all candidates trained together.

The search is scikit-learn's own: candidates, splits, scores, results and halving. Where it clones an estimator and fits
it, it is given one that has been fitted already, beside the others; `_run_search` is where this is arranged.
"""

import contextlib
import copy
import functools
import time
from collections import deque
from collections.abc import Callable, Iterator
from numbers import Integral, Real
from types import SimpleNamespace
from typing import Any

import numpy as np
from joblib import parallel_config
from sklearn.base import _fit_context, clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.model_selection import GridSearchCV, ParameterGrid, ParameterSampler, RandomizedSearchCV
from sklearn.model_selection._search import BaseSearchCV
from sklearn.model_selection._search_successive_halving import BaseSuccessiveHalving
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags
from sklearn.utils._param_validation import Interval
from sklearn.utils.metaestimators import _safe_split
from sklearn.utils.validation import _check_feature_names, _check_method_params, _num_samples

from fastmlp.estimators import MLPClassifier, MLPRegressor, validated
from fastmlp.many import fit_together

FITS_AT_ONCE = 256  # more would speed up nothing, and all of them are in memory until they have been scored

Failure = Callable[[], Exception]  # the error of a fit, with the traceback that it had when it was raised


# ---- an estimator's network, and what is in front of it ------------------------------------------------------------


def final_estimator(estimator: Any) -> Any:
    """What an estimator ends in, through its pipelines and transformed targets, fitted or not."""
    if isinstance(estimator, Pipeline):
        return final_estimator(estimator.steps[-1][1])
    if isinstance(estimator, TransformedTargetRegressor):
        return final_estimator(getattr(estimator, "regressor_", estimator.regressor))
    return estimator


def prefix_of(estimator: Any) -> str:
    """How the names of the network's parameters begin among those of the estimator, such as "mlp__"."""
    if isinstance(estimator, Pipeline):
        name, last = estimator.steps[-1]
        return f"{name}__{prefix_of(last)}"
    if isinstance(estimator, TransformedTargetRegressor):
        return f"regressor__{prefix_of(estimator.regressor)}"
    return ""


def check_network(estimator: Any) -> None:
    """Refuse what does not end in a network, or in one with a fit of its own."""
    network = final_estimator(estimator)
    kinds = MLPClassifier, MLPRegressor
    if not isinstance(network, kinds) or type(network).fit not in [kind.fit for kind in kinds]:
        raise TypeError(
            f"estimator is, or ends in, {type(network).__name__}; MLPClassifier and MLPRegressor are allowed, at the "
            "end of a Pipeline and in a TransformedTargetRegressor too (GridSearchCV of scikit-learn takes others)"
        )


def noting(kind: Any) -> Any:
    """A kind of network whose fit does nothing but note what it is given, frames and lists as arrays.

    Or each of the networks would turn them into an array of its own.
    """

    @functools.wraps(kind.fit)
    def fit(self: Any, X: Any, y: Any = None, **fit_params: Any) -> Any:
        _check_feature_names(self, X, reset=True)
        if fit_params.get("eval_set") is None:  # whose names the networks compare with those of X
            with contextlib.suppress(TypeError, ValueError):  # the networks will refuse it, each in its way
                X = validated(self, X, accept_sparse=["csr"])
        self.noted = X, y, fit_params
        return self

    return type(f"Noting{kind.__name__}", (kind,), {"fit": fit})


def failure_of(error: Exception) -> Failure:
    """Gives the error with its traceback of now: each time that it is raised would make this longer."""
    return functools.partial(error.with_traceback, error.__traceback__)


def fit_front(estimator: Any, X: Any, y: Any, fit_params: dict[str, Any]) -> Any:
    """Fit an estimator up to its network; what reaches this is what it has `noted`. Or the Failure of that."""
    network = final_estimator(estimator)
    network.__class__ = noting(type(network))
    try:
        return estimator.fit(X, y, **fit_params)
    except Exception as error:
        return failure_of(error)


def joined(candidate: Any, front: Any) -> Any:
    """A candidate whose network is unfitted, behind what a front of equal parameters has learned."""
    if isinstance(candidate, Pipeline):
        name, last = candidate.steps[-1]
        candidate.steps = [*front.steps[:-1], (name, joined(last, front.steps[-1][1]))]
    elif isinstance(candidate, TransformedTargetRegressor):
        own = candidate.get_params(deep=False)
        vars(candidate).update({name: value for name, value in vars(front).items() if name not in own})
        candidate.regressor_ = joined(clone(candidate.regressor), front.regressor_)
    return candidate


def with_parameters(estimator: Any, parameters: dict[str, Any]) -> Any:
    """A clone with other parameters, which are clones too, for they may be estimators."""
    return clone(estimator).set_params(**clone(parameters, safe=False))


# ---- candidates, fitted together -----------------------------------------------------------------------------------


def fit_candidates(estimator: Any, candidates: list[Any], parts: list[Any]) -> deque[tuple[Any, Failure | None]]:
    """Every candidate fitted to every part, in this order, with the Failure if it failed.

    What is in front of the networks is fitted once for each part and each choice of its own parameters.

    Parameters
    ----------
    estimator : estimator
    candidates : list of dict
        Parameters.
    parts : list of (X, y, fit_params)
        The training examples of each split.
    """
    fronts: dict[Any, Any] = {}
    fits: list[tuple[Any, Failure | None]] = []
    notes, networks, places = [], [], []
    for parameters in candidates:
        for k, part in enumerate(parts):
            candidate = with_parameters(estimator, parameters)
            prefix = prefix_of(candidate)
            key = k, *sorted((name, id(value)) for name, value in parameters.items() if not name.startswith(prefix))
            if key not in fronts:
                fronts[key] = fit_front(with_parameters(estimator, parameters), *part)
            front = fronts[key]
            if isinstance(front, functools.partial):
                fits.append((candidate, front))
                continue
            fits.append((joined(candidate, front), None))
            networks.append(final_estimator(candidate))
            notes.append(final_estimator(front))
            places.append(len(fits) - 1)
    errors = fit_together(networks, [note.noted for note in notes])
    for place, network, note, error in zip(places, networks, notes, errors):
        if error is not None:
            fits[place] = fits[place][0], failure_of(error)
        elif hasattr(note, "feature_names_in_"):
            network.feature_names_in_ = note.feature_names_in_
    return deque(fits)


def handed_over(estimator: Any, failure: Failure | None) -> Any:
    """A fitted estimator, for one who is about to set its parameters and to fit it: both are done."""

    def fit(*data: Any, **fit_params: Any) -> Any:
        del estimator.set_params, estimator.fit
        if failure is not None:
            raise failure()
        return estimator

    estimator.set_params = lambda **parameters: estimator
    estimator.fit = fit
    return estimator


class MLPSearchCV(BaseSuccessiveHalving):
    """GridSearchCV and RandomizedSearchCV, and their halving kin, with all networks trained together.

    Interface, candidates, splits, scores, results and errors are scikit-learn's: `cv_results_` has the scores of
    GridSearchCV(estimator, param_grid) to the bit. But the fits of all candidates to all splits go side by side on the
    threads (`fastmlp.train_many`), and what a split trains on is made once. There is no n_jobs: searches on many
    machines are GridSearchCV's, with joblib's back-ends.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
        Or a Pipeline that ends in one, or a TransformedTargetRegressor of one, or these within each other. What is in
        front of the networks is fitted once for each split and each choice of its own parameters.
    param_grid : dict or list of dict, optional
        Names of parameters and the values to try: all combinations. Exactly one of this and `param_distributions`.
    param_distributions : dict or list of dict, optional
        Names of parameters and lists of values or distributions (with a method rvs): `n_iter` combinations are drawn.
    n_iter : int >= 1, default=10
        Candidates that are drawn from `param_distributions`; with halving those of the first iteration.
    scoring : str, callable, list, tuple or dict, optional
        One metric or several, as in GridSearchCV; the estimator's `score` when not given. Halving allows one.
    refit : bool, str or callable, default=True
        Whether the best candidate is fitted to all examples: with several metrics the name of the one that decides; or
        a function of cv_results_ that returns the index of the best (there is no best_score_ then, as in GridSearchCV).
    cv : int, splitter or iterable, optional
        Five folds when not given; stratified for classifiers.
    verbose : int, default=0
        What scikit-learn's searches print. The fits are made in groups, so that the times printed with 2 and more are
        those of scoring alone.
    random_state : int, RandomState or None, default=None
        Of the drawing from `param_distributions`, and of the examples with halving; not of the networks.
    error_score : "raise" or float, default=nan
        The score of a fit that fails, with a FitFailedWarning.
    return_train_score : bool, default=False
        Whether cv_results_ has the scores of the training examples too.
    halving : bool, default=False
        Successive halving (Jamieson and Talwalkar, 2016): all candidates begin with few resources; the best 1/factor
        of them go on with factor times as many, and so on. The best of the last iteration wins.
    factor : float > 1, default=3
        For halving.
    resource : str, default="n_samples"
        For halving: what grows, the number of examples or a parameter that is a whole number, such as "max_iter".
    min_resources : int, "exhaust" or "smallest", default="exhaust"
        For halving: what the first iteration has. "exhaust": as much as lets the last one have max_resources;
        "smallest": 2 examples a split (and a class), or 1 of another resource.
    max_resources : int or "auto", default="auto"
        For halving: what a candidate may have at most. "auto" is the number of examples, and only for these.
    aggressive_elimination : bool, default=False
        For halving: repeat the first iteration until so few candidates are left that the last one can have
        max_resources.

    Attributes
    ----------
    cv_results_ : dict of ndarray
        As of GridSearchCV; with halving also "iter" and "n_resources". The time of a group of fits is shared evenly
        among them in the columns fit_time.
    best_estimator_, best_score_, best_params_, best_index_, refit_time_
        As of GridSearchCV, where `refit` allows.
    scorer_, multimetric_, n_splits_, n_features_in_, feature_names_in_, classes_
        As of GridSearchCV.
    n_resources_, n_candidates_ : list of int
        Of each iteration, with halving.
    n_iterations_, n_required_iterations_, n_possible_iterations_, n_remaining_candidates_ : int
        As of HalvingGridSearchCV, with halving.
    min_resources_, max_resources_ : int
        With halving.

    Notes
    -----
    In memory are the training examples of all splits, and up to 256 fitted networks, which are dropped when they have
    been scored. Callbacks of the search are told of its tasks, but of the networks' epochs only when the best is
    fitted again. While networks are trained together, their n_threads has no effect, and those that have callbacks of
    their own take turns. Networks without a random_state draw from NumPy's global generator in another order than those
    of GridSearchCV, so that their scores are others after numpy.random.seed too.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp import MLPClassifier, MLPSearchCV
    >>> X = np.random.default_rng(0).normal(size=(90, 2))
    >>> y = X[:, 0] * X[:, 1] > 0
    >>> network = MLPClassifier(solver="lbfgs", max_iter=50, random_state=0)
    >>> search = MLPSearchCV(network, {"hidden_layer_sizes": [(), (16,)]}, cv=3).fit(X, y)
    >>> search.best_params_
    {'hidden_layer_sizes': (16,)}
    >>> search.cv_results_["mean_test_score"].round(1)
    array([0.5, 0.9])
    """

    _parameter_constraints: dict[str, list[Any]] = {
        **BaseSuccessiveHalving._parameter_constraints,
        "scoring": BaseSearchCV._parameter_constraints["scoring"],
        "param_grid": [dict, list, None],
        "param_distributions": [dict, list, None],
        "n_iter": [Interval(Integral, 1, None, closed="left")],
        "factor": [Interval(Real, 1, None, closed="neither")],
        "halving": ["boolean"],
    }
    _parameter_constraints.pop("n_jobs")
    n_jobs = pre_dispatch = 1  # scikit-learn's fit asks for them

    def __init__(
        self,
        estimator,
        param_grid=None,
        *,
        param_distributions=None,
        n_iter=10,
        scoring=None,
        refit=True,
        cv=None,
        verbose=0,
        random_state=None,
        error_score=np.nan,
        return_train_score=False,
        halving=False,
        factor=3,
        resource="n_samples",
        min_resources="exhaust",
        max_resources="auto",
        aggressive_elimination=False,
    ):
        self.estimator = estimator
        self.param_grid = param_grid
        self.param_distributions = param_distributions
        self.n_iter = n_iter
        self.scoring = scoring
        self.refit = refit
        self.cv = cv
        self.verbose = verbose
        self.random_state = random_state
        self.error_score = error_score
        self.return_train_score = return_train_score
        self.halving = halving
        self.factor = factor
        self.resource = resource
        self.min_resources = min_resources
        self.max_resources = max_resources
        self.aggressive_elimination = aggressive_elimination

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y=None, **params):
        """Search, and fit the best candidate to all examples.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (m, n_features)
        y : array-like of shape (m,) or (m, n_outputs)
        **params
            What the estimator's fit takes, such as sample_weight, which is split like X and also given to scorers that
            take it; and the splitter's groups.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            When parameters do not go together.
        TypeError
            When the estimator, or one of the candidates, is or ends in something other than a network.
        """
        if (self.param_grid is None) == (self.param_distributions is None):
            given = "neither" if self.param_grid is None else "both"
            raise ValueError(f"of param_grid and param_distributions {given} is given; exactly one is allowed")
        if self.halving and isinstance(self.scoring, (list, tuple, set, dict)):
            raise ValueError(f"scoring is {self.scoring!r}; with halving=True one metric is allowed")
        check_network(self.estimator)
        # scikit-learn's fit works on a copy, with an estimator whose clones are those that have been fitted together
        search = copy.copy(self)
        search.estimator = clone(self.estimator)
        search.estimator.__sklearn_clone__ = lambda: search.estimator
        search._together = SimpleNamespace(estimator=self.estimator, seconds=[])
        search._n_samples_orig = _num_samples(X)
        with parallel_config(backend="sequential"):  # in order, and here: a back-end of elsewhere would get copies
            BaseSearchCV.fit(search, X, y, **params)
        if self.halving and not callable(self.refit):
            search.best_score_ = search.cv_results_["mean_test_score"][search.best_index_]
        del search._together
        self.__dict__ |= vars(search) | {"estimator": self.estimator}
        return self

    # ---- what scikit-learn's fit asks for on its way, on the copy ---------------------------------------------------

    def _get_routed_params_for_fit(self, params):
        routed = super()._get_routed_params_for_fit(params)
        self._together.fit_params = routed.estimator.fit
        return routed

    def _check_input_parameters(self, X, y, split_params):
        if self.halving:
            super()._check_input_parameters(X, y, split_params)
        self._together.data, self._together.split_params = (X, y), split_params

    def _generate_candidate_params(self):
        if self.param_grid is not None:
            return list(ParameterGrid(self.param_grid))
        return list(ParameterSampler(self.param_distributions, self.n_iter, random_state=self.random_state))

    def _run_search(self, evaluate_candidates, *, callback_ctx):
        run = GridSearchCV._run_search if self.param_distributions is None else RandomizedSearchCV._run_search
        if self.halving:
            run = BaseSuccessiveHalving._run_search
        prototype = self.estimator

        def evaluate(candidates, cv=None, **more):
            candidates = list(candidates)
            for parameters in candidates:
                check_network(with_parameters(self._together.estimator, parameters))
            cv = cv or self._checked_cv_orig
            splits = list(cv.split(*self._together.data, **self._together.split_params))
            fits = self._fits(candidates, splits)
            prototype.__sklearn_clone__ = lambda: next(fits)
            # the same splits again, for another call of split may draw others
            return evaluate_candidates(candidates, SimpleNamespace(split=lambda *data, **params: splits), **more)

        run(self, evaluate, callback_ctx=callback_ctx)
        del prototype.__sklearn_clone__  # the best is a clone as usual

    def _fits(self, candidates, splits) -> Iterator[Any]:
        """Candidates in the order in which scikit-learn fits them, which is to every split before the next."""
        X, y = self._together.data
        parts = []
        for train, _ in splits:
            fit_params = _check_method_params(X, params=self._together.fit_params, indices=train)
            parts.append((*_safe_split(self._together.estimator, X, y, train), fit_params))
        each = max(1, FITS_AT_ONCE // len(splits))
        for first in range(0, len(candidates), each):
            begin = time.perf_counter()
            fits = fit_candidates(self._together.estimator, candidates[first : first + each], parts)
            self._together.seconds += [(time.perf_counter() - begin) / len(fits)] * len(fits)
            while fits:
                yield handed_over(*fits.popleft())

    def _format_results(self, candidate_params, n_splits, out, more_results=None):
        for result, seconds in zip(out, self._together.seconds):
            result["fit_time"] = seconds
        results = super()._format_results(candidate_params, n_splits, out, more_results)
        if self.halving and "mean_test_score" not in results:
            raise ValueError("scoring returns several metrics; with halving=True one metric is allowed")
        return results

    def _select_best_index(self, refit, refit_metric, results):
        chooses = BaseSuccessiveHalving if self.halving and not callable(refit) else BaseSearchCV
        return chooses._select_best_index(refit, refit_metric, results)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags = copy.deepcopy(get_tags(self.estimator).transformer_tags)  # a network transforms too
        return tags
