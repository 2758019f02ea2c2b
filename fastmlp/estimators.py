"""MLPClassifier and MLPRegressor: scikit-learn's, on fastmlp's kernels."""

import contextlib
import functools
import warnings
import weakref
from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any

import numba
import numpy as np
from scipy.special import xlogy
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    RegressorMixin,
    TransformerMixin,
    _fit_context,
    is_classifier,
)
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.metrics import check_scoring
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import _safe_indexing, check_random_state, column_or_1d, compute_sample_weight
from sklearn.utils._param_validation import HasMethods, Interval, Options, StrOptions
from sklearn.utils._set_output import _get_output_config
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import _check_partial_fit_first_call, type_of_target, unique_labels
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from fastmlp import devices
from fastmlp.backend import run
from fastmlp.cpu.prediction import PlainPrediction
from fastmlp.cpu.trainer import is_finite
from fastmlp.fitting import (
    STOCHASTIC,
    Examples,
    OptimizerState,
    Progress,
    Report,
    Validation,
    accuracy,
    fit_lbfgs,
    fit_minibatches,
    r_squared,
)
from fastmlp.inputs import NUMBERS, as_hidden_layer, check_tables, is_sparse
from fastmlp.mpi import ALONE, lbfgs_settings, together
from fastmlp.persistence import comparable, fitted_values
from fastmlp.supplied import Activation, Loss, supplied
from fastmlp.training import check_every

DEFAULT_ALPHA = 1e-4
AGAINST_DIVERGENCE = "Try inputs scaled to about -1 ... 1, a smaller learning_rate_init, or max_gradient_norm."
FEW_ROWS = 256  # so few that laying out the weights would take longer than they save
# What validation leaves as it is, of the numbers that the kernels read; the first is what others become.
KEPT = [np.dtype(name) for name in "float64 float32 int8 int16 int32 int64 uint8 uint16 uint32 uint64".split()]
# For each estimator what its last prediction of a few rows has prepared, and from which arrays and settings: not among
# its attributes, which predict leaves alone.
PLAIN_PREDICTIONS: weakref.WeakKeyDictionary[Any, tuple[Any, Any]] = weakref.WeakKeyDictionary()


def validated(estimator: Any, X: Any, *y: Any, **settings: Any) -> Any:
    """X (and y) after scikit-learn's checks and those that the kernels need besides."""
    for data, name in zip((X, *y), "Xy", strict=False):
        check_tables(data, name)
    try:
        found = validate_data(estimator, X, *y, dtype=KEPT, **settings)
    except OverflowError as error:
        raise ValueError(f"X or y holds a number that float64 does not: {error}") from None
    X, *rest = found if y else (found,)
    if not X.dtype.isnative:  # validation leaves a frame's numbers in their byte order
        X = X.astype(X.dtype.newbyteorder("="))
    return (X, *rest) if y else X


def _shapes(data: Any) -> Any:
    """The shapes of a pair of arrays, as far as it is one."""
    try:
        return [list(getattr(part, "shape", None) or np.shape(part)) for part in data]
    except (TypeError, ValueError):
        return None if data is None else "given"


def _joined_shapes(found: list[Any]) -> Any:
    """The shapes of the arrays of which those found are parts."""
    if len(found) == 1 or not all(isinstance(shapes, list) for shapes in found):
        return found[0]
    return [[sum(shape[0] for shape in parts), *parts[0][1:]] for parts in zip(*found, strict=True)]


def _on_all_ranks(fit):
    """Give a method that takes comm its ranks, when all of them have found their parameters right."""

    @functools.wraps(fit)
    def fit_on_all(self, *arguments, comm=None, **more):
        with together(comm) as ranks:
            if ranks.shared:
                ranks.each(self._validate_params)
            return fit(self, *arguments, comm=ranks, **more)

    return fit_on_all


def _partial_fit_is_there(estimator: Any) -> bool:
    if estimator.solver not in STOCHASTIC:
        raise AttributeError(
            f"partial_fit is only available for stochastic optimizers. {estimator.solver} is not stochastic."
        )
    return True


class _MLP(CallbackSupportMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """What the classifier and the regressor share."""

    coefs_: list[np.ndarray]
    intercepts_: list[np.ndarray]
    _optimizer: OptimizerState | None

    _parameter_constraints: dict[str, list[Any]] = {
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions({"identity", "logistic", "tanh", "relu", "softplus"}), HasMethods(["f", "df"])],
        "solver": [StrOptions({"lbfgs", "sgd", "adam", "adamw", "gd"})],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "l2": [Interval(Real, 0, None, closed="left"), None],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [StrOptions({"constant", "invscaling", "adaptive", "cosine"}), callable],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "power_t": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        "momentum": [Interval(Real, 0, 1, closed="both")],
        "nesterovs_momentum": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "scoring": [str, callable, None],
        "beta_1": [Interval(Real, 0, 1, closed="left")],
        "beta_2": [Interval(Real, 0, 1, closed="left")],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), Options(Real, {np.inf})],
        "max_fun": [Interval(Integral, 1, None, closed="left")],
        "max_gradient_norm": [Interval(Real, 0, None, closed="neither"), None],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "init": [StrOptions({"glorot", "he", "small"})],
        "n_threads": [Interval(Integral, 1, None, closed="left"), None],
        "device": [StrOptions({"cpu", "cuda", "auto"})],
        "precision": [StrOptions(set(devices.PRECISIONS))],
    }

    @classmethod
    @functools.cache
    def _get_param_names(cls) -> list[str]:
        """As in scikit-learn, but the signature is looked into once: searches clone, and set parameters, often."""
        return super()._get_param_names()

    def _keep(self, arguments: dict[str, Any]) -> None:
        for name, value in arguments.items():
            if name not in ("self", "__class__"):
                setattr(self, name, value)

    # ---- what is fitted --------------------------------------------------------------------------------------------

    def _fit(self, *arguments, **more):
        with self._threads():
            run(self._fitting(*arguments, **more))
        return self

    def _fitting(
        self, X, y, sample_weight=None, incremental=False, eval_set=None, checkpoint=None, checkpoint_every=1,
        before=None, ranks=ALONE,
    ):  # fmt: skip
        """Fit; a generator of the passes that are to be run, which returns whether Ctrl-C has ended it."""
        given = X, y, sample_weight
        before = dict(vars(self)) if before is None else before
        with self._as_it_was(before):
            first = not hasattr(self, "coefs_") or (not self.warm_start and not incremental)
            check = functools.partial(self._check, *given, checkpoint_every, incremental, first, ranks)
            hidden, X, y, sample_weight = ranks.each(check)
            shard = ranks.shard(X.shape[0])
            if ranks.shared:
                given_to_all = {"eval_set": eval_set, "checkpoint": checkpoint, "sample_weight": sample_weight}
                ranks.same(**self._shared(X, y, first, checkpoint_every, given_to_all))
            self._take_classes(ranks.joined(y) if is_classifier(self) else y, incremental)
            T = self._targets(y)
            n_outputs = T.shape[1] if T.ndim == 2 else len(self.classes_)
            if not first and n_outputs != len(self.intercepts_[-1]):
                raise ValueError(f"y has {n_outputs} outputs; the network was fitted with {len(self.intercepts_[-1])}")
            self.n_outputs_ = n_outputs
            dtype = np.dtype(np.float32 if X.dtype == np.float32 else np.float64) if first else self._dtype()
            dtype = np.dtype(np.float32) if self.precision != "float32" else dtype
            layers = [X.shape[1], *(int(n) for n in hidden), self.n_outputs_]
            self._random_state = ranks.first(lambda: check_random_state(self.random_state))
            progress = None
            if checkpoint is not None:
                of_data = {"X": ranks.shape(X), "y": ranks.shape(y), "classes": getattr(self, "classes_", None)}
                of_data["hash of some rows"] = [ranks.fingerprint(X), ranks.fingerprint(T)]
                of_data["eval_set"] = _joined_shapes(ranks.gather(lambda: _shapes(eval_set)))
                of_data["sample_weight"] = None if sample_weight is None else ranks.fingerprint(sample_weight)
                progress = ranks.first(lambda: Progress.of(self, checkpoint, checkpoint_every, of_data))
                progress.ranks = ranks
            if first:
                self._initialize(layers, dtype)
            if progress is not None:
                progress.begin(self)
            self.coefs_, self.intercepts_ = start = ranks.first(lambda: (self.coefs_, self.intercepts_))
            weight = self._weight(y, sample_weight, ranks)
            examples = ranks.each(lambda: self._examples(X, y, T, weight, shard.m, ranks))
        context = None
        if not incremental:
            # one more than the epochs: an L-BFGS iteration begins when the one before it has ended
            context = self._init_callback_context(max_subtasks=self.max_iter + (self.solver == "lbfgs"))
        report = Report(self, *given, context if hasattr(self, "_skl_callbacks") else None, ranks)
        if context is not None:
            ranks.each(lambda: context.call_on_fit_task_begin(estimator=self, **report.data))
        device = "cpu" if ranks.shared else self.device
        with report:
            if self.solver == "lbfgs":
                total = examples.m if examples.weight is None else ranks.total(examples.weight.sum())
                l2 = self.alpha / total if self.l2 is None else self.l2
                trainer = self._trainer(np.dtype(np.float64), l2, examples=examples.m, device=device)
                with self._as_it_was(before):
                    validation = None if eval_set is None else self._validation(X, y, T, None, examples, eval_set)
                fit_lbfgs(self, trainer, examples, validation, report, progress)
            else:
                by_example = self.l2 is None
                with self._as_it_was(before):
                    validation = self._validation(X, y, T, sample_weight, examples, eval_set)
                if validation is not None and self.early_stopping and first:
                    validation.best = [W.copy() for W in self.coefs_], [b.copy() for b in self.intercepts_]
                l2 = self.alpha if by_example else self.l2
                trainer = self._trainer(dtype, l2, by_example, examples.m, incremental, device)
                begun_with = None if validation is None else validation.best
                yield from fit_minibatches(self, trainer, examples, incremental, validation, report, progress)
                best = None if validation is None else validation.best
                if best is not None and (trainer.is_finite() or best is not begun_with):
                    if not trainer.is_finite():
                        warnings.warn(
                            f"Training diverged in epoch {self.n_iter_}; the weights are those with the best "
                            f"validation score before. {AGAINST_DIVERGENCE}",
                            RuntimeWarning,
                            stacklevel=8,
                        )
                    trainer.set_parameters(*best)
            weights, biases = trainer.parameters()
        with np.errstate(over="ignore"):
            weights, biases = ([a.astype(dtype, copy=False) for a in arrays] for arrays in (weights, biases))
        if not all(map(is_finite, (*weights, *biases))):
            self.coefs_, self.intercepts_ = start
            self._optimizer = None
            raise ValueError(
                "Solver produced non-finite parameter weights. The input data may contain large values and need to be "
                f"preprocessed. The weights are those from before. {AGAINST_DIVERGENCE}"
            )
        self.coefs_, self.intercepts_ = weights, biases
        if context is not None:
            end = context.call_on_fit_task_end
            ranks.each(lambda: end(estimator=self, reconstruction_attributes={}, **report.data))
        return report.interrupted

    def _check(self, X, y, sample_weight, checkpoint_every, incremental, first, ranks):
        """Refuse wrong parameters and data, as far as one rank knows them; returns what the kernels can read."""
        check_every(checkpoint_every)
        sizes = self.hidden_layer_sizes
        hidden = list(sizes) if hasattr(sizes, "__iter__") else [sizes]
        if np.any(np.array(hidden) <= 0):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {hidden}.")
        if any(n >= 2**63 for n in hidden):
            raise ValueError(f"hidden_layer_sizes is {sizes}; numbers within 64 bits are allowed")
        self._check_combinations(incremental)
        if ranks.shared and self.device == "cuda":
            raise ValueError("device is 'cuda'; comm allows 'cpu' only")
        if ranks.shared:
            devices.resolve("cpu", self.precision)
        if ranks.shared and self.scoring is not None:
            raise ValueError(f"scoring is {self.scoring!r}; comm allows None only: accuracy, or R^2")
        self._f(), self._loss()  # refuse f and df that do not belong together
        X, y = self._validate(X, y, first)
        if not is_classifier(self):
            self._check_more(y)
        if sample_weight is not None:
            try:
                sample_weight = np.asarray(_check_sample_weight(sample_weight, X), np.float64)
            except OverflowError as error:
                raise ValueError(f"sample_weight holds a number that float64 does not: {error}") from None
        return hidden, X, y, sample_weight

    def _shared(self, X, y, first: bool, checkpoint_every: int, given: dict[str, Any]) -> dict[str, Any]:
        """What must be the same on all ranks."""
        parameters = self.get_params(deep=False).items()
        shared = {n: comparable(value, n) for n, value in parameters if n not in ("verbose", "n_threads")}
        shared |= {"number of features": X.shape[1], "whether X is float32": X.dtype == np.float32}
        shared |= {"shape of y": y.shape[1:], "checkpoint_every": checkpoint_every, "whether y is sparse": is_sparse(y)}
        shared["whether y holds numbers"] = y.dtype.kind in "biuf"
        shared |= {f"whether {name} is given": value is not None for name, value in given.items()}
        if self.solver == "lbfgs":
            shared |= lbfgs_settings()
        return shared | {"what was fitted before": None if first else fitted_values(self)}

    @contextlib.contextmanager
    def _as_it_was(self, before: dict[str, Any]) -> Iterator[None]:
        """What is refused leaves no trace: classes, features or weights that do not belong together."""
        try:
            yield
        except BaseException:
            self.__dict__ = dict(before)
            raise

    def _validate(self, X, y, reset: bool):
        numeric = not is_classifier(self)
        X, y = validated(self, X, y, accept_sparse=["csr"], multi_output=True, y_numeric=numeric, reset=reset)
        return X, column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y

    def _check_combinations(self, incremental: bool) -> None:
        for name, value in self.get_params(deep=False).items():
            if isinstance(value, (int, np.integer)) and abs(int(value)) >= 2**63:
                raise ValueError(f"{name} is {value}; numbers within 64 bits are allowed")
        if self.l2 is not None and self.alpha not in (0, DEFAULT_ALPHA):
            raise ValueError(f"l2 is {self.l2} and alpha is {self.alpha}; one of the two is allowed")
        if self.scoring is not None:
            check_scoring(self, scoring=self.scoring)
        devices.resolve(self.device, self.precision)
        if self.solver == "lbfgs" and self.precision != "float32":
            raise ValueError(
                f"precision is {self.precision!r}; solver='lbfgs' allows 'float32' only, for it compares exact losses"
            )
        if self.early_stopping and incremental:
            raise ValueError("partial_fit does not support early_stopping=True")
        if self.solver == "lbfgs" and self.dropout > 0:
            raise ValueError(f"dropout is {self.dropout}; solver='lbfgs' allows 0.0 only, for its loss must not change")

    def _weight(self, y, sample_weight, ranks):
        return sample_weight

    def _take_classes(self, y, incremental: bool) -> None:
        """Learn, from the targets of all ranks, what there is to tell apart."""

    def _initialize(self, layers: list[int], dtype: np.dtype) -> None:
        self.n_iter_ = self.t_ = 0
        self.n_layers_ = len(layers)
        self.out_activation_ = self._output_activation()
        weights: list[np.ndarray] = []
        biases: list[np.ndarray] = []
        for n_in, n_out in zip(layers, layers[1:], strict=False):
            for shape, arrays in (((n_in, n_out), weights), (n_out, biases)):
                arrays.append(self._initial(n_in, n_out, shape).astype(dtype, copy=False))
        self.coefs_, self.intercepts_ = weights, biases
        self._optimizer = None
        if self.solver != "lbfgs":
            self.loss_curve_: list[float] = []
            self._no_improvement_count = 0
            self.best_loss_ = None if self.early_stopping else np.inf
            self.validation_scores_: Any = [] if self.early_stopping else None
            self.best_validation_score_ = -np.inf if self.early_stopping else None
            self.__dict__.pop("validation_curve_", None)

    def _initial(self, n_in: int, n_out: int, shape: Any) -> np.ndarray:
        """Weights or biases to start from: Glorot's as scikit-learn draws them, He's, or the lecture's."""
        rng = self._random_state
        if self.init == "small":
            return rng.normal(0.0, 0.01, shape)
        if self.init == "he":
            return rng.normal(0.0, np.sqrt(2.0 / n_in), shape) if isinstance(shape, tuple) else np.zeros(shape)
        bound = np.sqrt((2.0 if self.activation == "logistic" else 6.0) / (n_in + n_out))
        return rng.uniform(-bound, bound, shape)

    def _examples(self, X, y, T, weight, rows: int, ranks: Any) -> Examples:
        offsets = None
        if not is_classifier(self) and self.loss == "poisson":
            offsets = (xlogy(T, T) - T).sum(axis=1, dtype=np.float64)
        of_outputs = not is_classifier(self) and self.loss != "poisson"
        if weight is not None:
            weight = np.ascontiguousarray(weight, np.float64)
            if not np.isfinite(weight).all():
                raise ValueError("sample_weight or class_weight gives an example a weight that is not finite")
        return Examples(X, T, weight, offsets, None, self.n_outputs_ if of_outputs else 1, rows, ranks)

    def _eval_set(self, given: Any) -> tuple[Any, Any, Any]:
        """X, y and the targets of eval_set, checked."""
        try:
            X, y = given
        except (TypeError, ValueError):
            raise ValueError("eval_set is not a pair; (X, y) is allowed") from None
        X, y = self._validate(X, y, reset=False)
        self._check_more(y)
        T = self._targets(y)
        if T.ndim == 2 and T.shape[1] != self.n_outputs_:
            raise ValueError(f"y of eval_set has {T.shape[1]} outputs; the network has {self.n_outputs_}")
        return X, y, T

    def _validation(self, X, y, T, weight, examples: Examples, eval_set: Any) -> Validation | None:
        """The examples of eval_set; or those that early stopping sets aside, as scikit-learn draws them."""
        ranks = examples.ranks
        if eval_set is not None:
            X, y, T = ranks.each(lambda: self._eval_set(eval_set))
            weight, rows = None, ranks.shard(X.shape[0]).m
        elif self.early_stopping:
            # multilabel targets are not stratified, nor are scikit-learn's multiclass ones
            stratify = ranks.joined(T) if is_classifier(self) and self.n_outputs_ == 1 else None
            shard = ranks.shard(X.shape[0])
            examples.chosen, held_out = train_test_split(
                np.arange(shard.m),
                random_state=self._random_state,
                test_size=self.validation_fraction,
                stratify=stratify,
            )
            if len(held_out) < 2:
                raise ValueError(
                    "The validation set is too small. Increase 'validation_fraction' or the size of your dataset."
                )
            rows = len(held_out)
            held_out = held_out[(held_out >= shard.begin) & (held_out < shard.end)] - shard.begin
            X, y, T = _safe_indexing(X, held_out), y[held_out], T[held_out]
            weight = None if weight is None else weight[held_out]
        else:
            return None
        if getattr(self, "validation_scores_", None) is None:
            self.validation_scores_ = []
        if not hasattr(self, "validation_curve_"):
            self.validation_curve_: list[float] = []
        return Validation(self, self._examples(X, y, T, weight, rows, ranks), y)

    def _trainer(
        self, dtype: np.dtype, l2=0.0, l2_per_example=False, examples=0, incremental=False, device=None
    ) -> Any:
        """The kernels' side of the network, with its weights; that of the partial_fit before, if it still fits.

        `examples` is how many it is to be trained with; with none, it is to predict only. On `device`, or the
        estimator's own.
        """
        training = examples > 0
        eps = np.finfo(dtype).eps
        settings = (
            self._sizes(),
            self._f(),
            self.out_activation_,
            self._loss(),
            float(l2),
            dtype,
            float(self.dropout),
            l2_per_example,
            (-np.log1p(-eps), -np.log(eps)),
            self.precision if training else "float32",
        )
        optimizer = getattr(self, "_optimizer", None) if training else None
        kept = None if optimizer is None else optimizer.trainer
        device = device or self.device
        if device == "cuda" and not training and (problem := devices.cuda_problem()) is not None:
            warnings.warn(f"device is 'cuda'; predicting on the CPU: {problem.message}", RuntimeWarning, stacklevel=3)
            device = "cpu"
        elif device == "auto":
            device = "cpu"
            if training:
                looked_at = kept if kept is not None else devices.trainer_class("cpu")(*settings)
                each = examples if self.solver in ("lbfgs", "gd") else self.batch_size
                each = min(200 if each == "auto" else each, examples)
                device = devices.choose(looked_at, examples, each, 1 if incremental else self.max_iter)
        make = devices.trainer_class(device)
        same = kept is not None and type(kept) is make and kept.settings == settings
        if kept is not None and same and kept.has_parameters(self.coefs_, self.intercepts_):
            return kept
        trainer = make(*settings)
        trainer.set_parameters(self.coefs_, self.intercepts_, training)
        return trainer

    @contextlib.contextmanager
    def _threads(self) -> Iterator[None]:
        before = numba.get_num_threads()
        if self.n_threads is not None:
            numba.set_num_threads(min(self.n_threads, numba.config.NUMBA_NUM_THREADS))
        try:
            yield
        finally:
            numba.set_num_threads(before)

    # ---- prediction ------------------------------------------------------------------------------------------------

    def _outputs(self, X, largest: bool = False) -> np.ndarray:
        """h(X), (m, n_outputs), of data that has not been looked at; if asked for, where softmax is largest, (m,)."""
        if not hasattr(self, "coefs_"):
            check_is_fitted(self, "coefs_")  # a fit that was refused leaves other attributes
        largest = largest and self.out_activation_ == "softmax"
        # what scikit-learn's validation would find out, for the arrays that most calls bring
        plain = type(X) is np.ndarray and X.dtype in NUMBERS and X.ndim == 2
        plain = plain and X.shape[1] == self.n_features_in_ and len(X) > 0 and not hasattr(self, "feature_names_in_")
        few = plain and len(X) <= FEW_ROWS
        if not plain or (few and not np.isfinite(X).all()):
            X = validated(self, X, accept_sparse=["csr"], reset=False)
        dtype = self._dtype(X.dtype)
        if few:
            outputs = self._plain_prediction(dtype)(np.ascontiguousarray(X, dtype))
            return outputs.argmax(axis=1) if largest else outputs
        trainer = self._trainer(dtype)
        with self._threads():
            try:
                return trainer.forward(X, check=plain, largest=largest)
            except ValueError:  # X was not validated and has numbers that are not finite
                X = validated(self, X, reset=False)
                return trainer.forward(X, check=False, largest=largest)

    def transform(self, X, layer=-1):
        """The representation of X that the network has learned: what a hidden layer puts out (eq. 7).

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (m, n_features)
        layer : int, default=-1
            Which hidden layer, as in hidden_layer_sizes: the last one, which the output layer decides by.

        Returns
        -------
        a : ndarray of shape (m, n_units)
            Or a frame, as `set_output` says; its columns are called as `get_feature_names_out` says, which is of the
            last hidden layer.

        Raises
        ------
        ValueError
            When there is no such hidden layer, or X does not suit the network.
        """
        check_is_fitted(self, "coefs_")
        layer = as_hidden_layer(layer, len(self.coefs_) - 1)
        if layer < len(self.coefs_) - 2 and _get_output_config("transform", self)["dense"] != "default":
            raise ValueError(f"layer is {layer} and set_output wants a frame; the last hidden layer is allowed there")
        X = validated(self, X, accept_sparse=["csr"], reset=False)
        trainer = self._trainer(self._dtype(X.dtype))
        with self._threads():
            return trainer.hidden(X, layer, check=False)

    @property
    def _n_features_out(self) -> int:
        """Of `transform`, for get_feature_names_out."""
        as_hidden_layer(-1, len(self.coefs_) - 1)
        return len(self.intercepts_[-2])

    def _sizes(self) -> tuple[int, ...]:
        """Widths of the layers, by the weights and biases as they are now."""
        sizes = (len(self.coefs_[0]), *map(len, self.intercepts_))
        found = [array.shape for arrays in (self.coefs_, self.intercepts_) for array in arrays]
        allowed = [*zip(sizes, sizes[1:], strict=False), *((n,) for n in sizes[1:])]
        if found != allowed or sizes[0] != self.n_features_in_:
            raise ValueError(f"coefs_ and intercepts_ have shapes {found}; {allowed} are allowed")
        return sizes

    def _f(self) -> Any:
        """f of the hidden layers: its name, or the Activation that was supplied."""
        return self._piece("activation", Activation)

    def _loss(self) -> Any:
        """The loss of an example: its name, or the Loss that was supplied."""
        if is_classifier(self):
            return "log_loss"
        return self._piece("loss", Loss)

    def _piece(self, name: str, kind: type) -> Any:
        value = getattr(self, name)
        found = value if isinstance(value, str) else supplied(kind, value)
        if found is None:
            raise ValueError(f"{name} is {value!r}; a name and a fastmlp.{kind.__name__} are allowed")
        return found

    def _dtype(self, *others: np.dtype) -> np.dtype:
        """float32 when the weights (and other arrays) are no wider, else float64."""
        found = np.result_type(*(a.dtype for a in self.coefs_), *(a.dtype for a in self.intercepts_), *others)
        return np.dtype(np.float32 if found in (np.float32, np.float16) else np.float64)

    def _plain_prediction(self, dtype: np.dtype) -> PlainPrediction:
        """The prediction of a few rows, made anew when the weights are other arrays than at the last call."""
        used = (*self.coefs_, *self.intercepts_, self._f(), self.out_activation_, dtype)
        kept, prediction = PLAIN_PREDICTIONS.get(self, ((), None))
        if prediction is None or len(kept) != len(used) or any(a is not b for a, b in zip(kept, used, strict=True)):
            self._sizes()
            prediction = PlainPrediction(self.coefs_, self.intercepts_, self._f(), self.out_activation_, dtype)
            if not prediction.copied:
                PLAIN_PREDICTIONS[self] = used, prediction
        return prediction

    @property
    def jit_predict_(self):
        """A function (X) -> y, X (m, n_features), to be called from code that Numba compiles.

        y is what `predict` returns, but class numbers (places in classes_) where the classes are not numbers. Each
        access compiles a new function, which keeps the weights of that moment.
        """
        check_is_fitted(self, "coefs_")
        self._sizes()
        weights, biases = [W.copy() for W in self.coefs_], [b.copy() for b in self.intercepts_]
        prediction = PlainPrediction(weights, biases, self._f(), self.out_activation_, self._dtype())
        return self._jit_predict(prediction.compiled())

    @_on_all_ranks
    @_fit_context(prefer_skip_nested_validation=True)
    @with_callbacks
    def fit(self, X, y, sample_weight=None, eval_set=None, checkpoint=None, checkpoint_every=1, *, comm=None):
        """Fit to X and y.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (m, n_features)
        y : array-like of shape (m,) or (m, n_outputs)
        sample_weight : array-like of shape (m,), optional
        eval_set : (X, y), optional
            Examples to score after each epoch, in validation_scores_ and validation_curve_; with early_stopping=True
            they take the place of those that would have been set aside.
        checkpoint : path-like, optional
            A file that the fit is written to, in one piece or not at all, and resumed from where it is there already:
            the same call again, after a crash or Ctrl-C, ends with the same bits as an undisturbed one ("lbfgs"
            restarts its memory), a finished fit is loaded and returned at once, a larger max_iter goes on. A file of
            other parameters, or of other data (by their shapes and some of their rows), is a ValueError.
        checkpoint_every : int >= 1, default=1
            Epochs from one writing to the next.
        comm : mpi4py.MPI.Intracomm, optional
            Fit together with all ranks of a communicator, as `MPI.COMM_WORLD` (needs `fastmlp[mpi]`): each calls `fit`
            with its own examples in X, y, sample_weight and eval_set, and the same other arguments, of an estimator
            with the same parameters. The result is that of one process with all examples, one rank's behind another's,
            to rounding, and has the same bits on every rank; random_state is rank 0's. Rank 0 prints, and writes and
            reads the checkpoint. See `fastmlp.Network.train`. On the CPU, without `scoring`.

        Returns
        -------
        self
        """
        return self._fit(X, y, sample_weight, False, eval_set, checkpoint, checkpoint_every, ranks=comm)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


class MLPClassifier(ClassifierMixin, _MLP):
    """scikit-learn's MLPClassifier on fastmlp's kernels: the same parameters, numbers and attributes, and more.

    Log loss; softmax for several classes, logistic units for two and for labels.

    Parameters
    ----------
    hidden_layer_sizes : array-like of int, default=(100,)
        Units of each hidden layer; () is a linear model.
    activation : {"identity", "logistic", "tanh", "relu", "softplus"} or Activation, default="relu"
        f of the hidden layers (eq. 1-3); or your own, a `fastmlp.Activation` or any object with functions f(z), df(z).
    solver : {"adam", "sgd", "lbfgs", "adamw", "gd"}, default="adam"
        "adamw" is Adam with decoupled weight decay; "gd" the lecture's gradient descent (eq. 12-13) over all examples,
        until no weight changes by more than tol; "lbfgs" SciPy's L-BFGS-B.
    alpha : float >= 0, default=0.0001
        Weight of half the squared weights in the loss, divided by the examples of a minibatch (the sum of their weights
        with sample_weight): scikit-learn's meaning.
    batch_size : int or "auto", default="auto"
        Examples of a minibatch for "sgd", "adam", "adamw"; "auto" is min(200, m).
    learning_rate : {"constant", "invscaling", "adaptive", "cosine"} or callable, default="constant"
        Schedule. "invscaling" (learning_rate_init / t^power_t) and "adaptive" (a fifth of it whenever n_iter_no_change
        epochs brought nothing) act on "sgd" only; "cosine" falls from learning_rate_init to zero over max_iter epochs;
        a callable gives the rate of epoch 0, 1, ... itself. "lbfgs" has no learning rate.
    learning_rate_init : float > 0, default=0.001
    power_t : float >= 0, default=0.5
        For "invscaling".
    max_iter : int >= 1, default=200
        Epochs at most (iterations of "lbfgs").
    shuffle : bool, default=True
        Whether the minibatches are drawn anew every epoch.
    random_state : int, RandomState or None, default=None
        Of the initial weights, the minibatches, the examples that early stopping sets aside, and dropout.
    tol : float >= 0, default=1e-4
        An epoch that lowers the loss (raises the validation score) by less than this is no improvement.
    verbose : int or bool, default=False
        1 shows a progress bar, 2 and more print a line an epoch.
    warm_start : bool, default=False
        Whether fit goes on from the weights that there are.
    momentum : float in [0, 1], default=0.9
        For "sgd".
    nesterovs_momentum : bool, default=True
        For "sgd" with momentum > 0.
    early_stopping : bool, default=False
        Stop when the score of examples that are not trained on has not improved for n_iter_no_change epochs; the
        weights with the best score stand.
    validation_fraction : float in [0, 1), default=0.1
        The part of the examples that early stopping sets aside.
    beta_1, beta_2 : float in [0, 1), default=0.9, 0.999
        Adam's decays.
    epsilon : float > 0, default=1e-8
        Adam's.
    n_iter_no_change : int or inf, default=10
        More epochs than this without an improvement end the training.
    max_fun : int >= 1, default=15000
        Evaluations of the loss by "lbfgs" at most.
    class_weight : dict or "balanced", optional
        Weights of the classes; "balanced" makes each class count alike (in fit alone).
    l2 : float >= 0, optional
        lambda of eq. 5, in place of alpha: not divided by the examples of a minibatch.
    weight_decay : float >= 0, default=0.01
        Of "adamw": every update also takes learning rate * weight_decay * W from the weights, beside alpha or l2.
    max_gradient_norm : float > 0, optional
        A longer gradient (Euclidean, over all weights and biases) is scaled down to this length; not for "lbfgs".
    dropout : float in [0, 1), default=0.0
        The part of the hidden units that each update leaves out; not for "lbfgs".
    scoring : str or callable, optional
        What validation_scores_ holds; accuracy when not given.
    init : {"glorot", "he", "small"}, default="glorot"
        Initial weights: scikit-learn's, He's (2015; biases zero), or the lecture's (normal, standard deviation 0.01).
    n_threads : int >= 1, optional
        Threads on the CPU; numba.get_num_threads() when not given. The result does not depend on it.
    device : {"cpu", "cuda", "auto"}, default="cpu"
        "cuda" is an NVIDIA GPU, with the extra `fastmlp[cuda]`; "auto" takes it where there is a usable one and the
        fit is long enough to be faster there. Predictions of few rows, and those after "auto", are made on the CPU.
    precision : {"float32", "tf32", "bf16"}, default="float32"
        What products are multiplied in while fitting; the lower ones make the network float32, whatever X is, and need
        a processor or a GPU that has them (see Network); not for "lbfgs". Predictions are made in the weights' dtype.

    Attributes
    ----------
    classes_ : ndarray
    coefs_, intercepts_ : list of ndarray
        W of each layer, (n_in, n_out), and b, (n_out,).
    loss_, best_loss_ : float
        The loss of the last epoch, and the lowest (None with early stopping).
    loss_curve_ : list of float
        The loss of each epoch, averaged over its minibatches as they were seen. Not there with "lbfgs".
    validation_scores_, best_validation_score_ : list of float, float; None without early stopping or eval_set
    validation_curve_ : list of float
        The loss of the validation examples after each epoch, without the penalty. Only there with validation_scores_.
    n_iter_, t_ : int
        Epochs, and examples seen.
    n_layers_, n_outputs_, n_features_in_ : int
    feature_names_in_ : ndarray of str
        Where X had names.
    out_activation_ : str
    jit_predict_ : callable
        `predict` as a function for code that Numba compiles.

    Notes
    -----
    `set_callbacks` takes scikit-learn's callbacks (sklearn.callback: ProgressBar, ScoringMonitor, your own), which are
    called after each epoch. Ctrl-C ends the training with a warning; the weights of that moment are kept. A training
    whose weights are no longer finite ends at once, with scikit-learn's error.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from fastmlp import MLPClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> classifier = MLPClassifier((50,), max_iter=30, random_state=0).fit(X / 16, y)
    >>> bool(classifier.score(X / 16, y) > 0.9)
    True
    """

    _parameter_constraints: dict[str, list[Any]] = {
        **_MLP._parameter_constraints,
        "class_weight": [dict, StrOptions({"balanced"}), None],
    }
    _score_function = staticmethod(accuracy)

    def __init__(
        self,
        hidden_layer_sizes=(100,),
        activation="relu",
        *,
        solver="adam",
        alpha=DEFAULT_ALPHA,
        batch_size="auto",
        learning_rate="constant",
        learning_rate_init=0.001,
        power_t=0.5,
        max_iter=200,
        shuffle=True,
        random_state=None,
        tol=1e-4,
        verbose=False,
        warm_start=False,
        momentum=0.9,
        nesterovs_momentum=True,
        early_stopping=False,
        validation_fraction=0.1,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
        n_iter_no_change=10,
        max_fun=15000,
        class_weight=None,
        l2=None,
        weight_decay=0.01,
        max_gradient_norm=None,
        dropout=0.0,
        scoring=None,
        init="glorot",
        n_threads=None,
        device="cpu",
        precision="float32",
    ):
        self._keep(locals())

    def _output_activation(self) -> str:
        return "softmax" if self._label_binarizer.y_type_ == "multiclass" else "logistic"

    def _take_classes(self, y, incremental: bool) -> None:
        if not hasattr(self, "classes_") or (not self.warm_start and not incremental):
            self._label_binarizer = LabelBinarizer().fit(y)
            self.classes_ = self._label_binarizer.classes_
        else:
            self._check_classes(y, self.warm_start)

    def _check_more(self, y) -> None:
        self._check_classes(y, warm_start=False)

    def _check_classes(self, y, warm_start: bool) -> None:
        classes = unique_labels(y)
        if warm_start:
            if set(classes) != set(self.classes_):
                raise ValueError(
                    "warm_start can only be used where `y` has the same classes as in the previous call to fit. "
                    f"Previously got {self.classes_}, `y` has {classes}"
                )
        elif len(np.setdiff1d(classes, self.classes_, assume_unique=True)):
            raise ValueError(
                f"`y` has classes not in `self.classes_`. `self.classes_` has {self.classes_}. 'y' has {classes}."
            )

    def _targets(self, y) -> np.ndarray:
        """Class numbers (m,), which the kernels read as one-hot rows, or zeros and ones (m, n_outputs)."""
        if (y.ndim == 2) != self._label_binarizer.y_type_.startswith("multilabel"):
            raise ValueError(
                f"y has shape {y.shape}; the network was fitted to {self._label_binarizer.y_type_} targets"
            )
        if self._label_binarizer.y_type_ == "multiclass":
            return np.searchsorted(self.classes_, y).astype(np.int64)
        return self._label_binarizer.transform(y).astype(bool)

    def _weight(self, y, sample_weight, ranks):
        if self.class_weight is None:
            return sample_weight
        shard = ranks.shard(y.shape[0])
        weight = compute_sample_weight(self.class_weight, ranks.joined(y))[shard.begin : shard.end]
        return weight if sample_weight is None else weight * sample_weight

    def _from_outputs(self, outputs: np.ndarray) -> np.ndarray:
        """Labels from outputs, or from places of the largest: the most probable class; for each label whether it is
        more probable than not.
        """
        if outputs.ndim == 1:
            return self.classes_.take(outputs)
        if self._label_binarizer.y_type_.startswith("multilabel"):
            return self._label_binarizer.inverse_transform(outputs)
        if len(self.classes_) == 1:
            return np.repeat(self.classes_[0], len(outputs))
        return self.classes_.take((outputs[:, 0] > 0.5).astype(np.int64))

    def _jit_predict(self, forward):
        multiclass = self._label_binarizer.y_type_ == "multiclass"
        multilabel = self._label_binarizer.y_type_.startswith("multilabel")
        numbers = self.classes_.dtype.kind in "biuf"
        classes = self.classes_ if numbers else np.arange(len(self.classes_))

        @numba.njit(nogil=True)
        def jit_predict_multilabel(X):
            return (forward(X) > 0.5).astype(np.int64)

        @numba.njit(nogil=True)
        def jit_predict(X):
            h = forward(X)
            y = np.empty(len(h), classes.dtype)
            for r in range(len(h)):
                if multiclass:
                    y[r] = classes[np.argmax(h[r])]
                else:
                    y[r] = classes[min(int(h[r, 0] > 0.5), len(classes) - 1)]
            return y

        return jit_predict_multilabel if multilabel else jit_predict

    def predict(self, X):
        """Classes of the examples.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (m, n_features)

        Returns
        -------
        y : ndarray of shape (m,) or (m, n_outputs)
        """
        return self._from_outputs(self._outputs(X, largest=True))

    def predict_proba(self, X):
        """Probabilities of the classes.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (m, n_features)

        Returns
        -------
        y : ndarray of shape (m, n_classes)
            In the order of classes_; of each label, for multilabel targets.
        """
        outputs = self._outputs(X)
        return np.hstack([1 - outputs, outputs]) if outputs.shape[1] == 1 else outputs

    def predict_log_proba(self, X):
        """Logarithms of the probabilities of the classes.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (m, n_features)

        Returns
        -------
        y : ndarray of shape (m, n_classes)
            In the order of classes_.
        """
        probabilities = self.predict_proba(X)
        return np.log(probabilities, out=probabilities)

    @available_if(_partial_fit_is_there)
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, sample_weight=None, classes=None):
        """One epoch over the given data, from the weights and the optimizer's state as they are.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (m, n_features)
        y : array-like of shape (m,) or (m, n_outputs)
        sample_weight : array-like of shape (m,), optional
        classes : array-like of shape (n_classes,), optional
            All classes there are; needed in the first call.

        Returns
        -------
        self
        """
        if self.class_weight == "balanced":
            raise ValueError(
                "class_weight is 'balanced'; partial_fit sees too few examples to balance: None and a dict are allowed "
                "(compute_class_weight of sklearn.utils.class_weight gives one from all of y)"
            )
        before = dict(vars(self))
        with self._as_it_was(before):
            if _check_partial_fit_first_call(self, classes):
                check_tables(y, "y")
                if np.shape(y)[:1] == (0,):
                    raise ValueError(f"y has shape {np.shape(y)}; at least one row is allowed")
                self._label_binarizer = LabelBinarizer()
                self._label_binarizer.fit(y if type_of_target(y).startswith("multilabel") else classes)
        return self._fit(X, y, sample_weight, incremental=True, before=before)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


class MLPRegressor(RegressorMixin, _MLP):
    """scikit-learn's MLPRegressor on fastmlp's kernels: the same parameters, numbers and attributes, and more.

    Parameters
    ----------
    loss : {"squared_error", "poisson", "huber", "absolute_error"} or Loss, default="squared_error"
        Half the squared error; half the Poisson deviance of e^z, for y >= 0; Huber's, which is half the squared error
        up to a distance of 1 and linear beyond; the absolute error; or your own, a `fastmlp.Loss` or any object with
        functions f(a, y), df(a, y). The mean over the outputs, Poisson's the sum.
    hidden_layer_sizes : array-like of int, default=(100,)
        Units of each hidden layer; () is a linear model.
    activation : {"identity", "logistic", "tanh", "relu", "softplus"} or Activation, default="relu"
        f of the hidden layers (eq. 1-3); or your own, a `fastmlp.Activation` or any object with functions f(z), df(z).
    solver : {"adam", "sgd", "lbfgs", "adamw", "gd"}, default="adam"
        "adamw" is Adam with decoupled weight decay; "gd" the lecture's gradient descent (eq. 12-13) over all examples,
        until no weight changes by more than tol; "lbfgs" SciPy's L-BFGS-B.
    alpha : float >= 0, default=0.0001
        Weight of half the squared weights in the loss, divided by the examples of a minibatch (the sum of their weights
        with sample_weight): scikit-learn's meaning.
    batch_size : int or "auto", default="auto"
        Examples of a minibatch for "sgd", "adam", "adamw"; "auto" is min(200, m).
    learning_rate : {"constant", "invscaling", "adaptive", "cosine"} or callable, default="constant"
        Schedule. "invscaling" (learning_rate_init / t^power_t) and "adaptive" (a fifth of it whenever n_iter_no_change
        epochs brought nothing) act on "sgd" only; "cosine" falls from learning_rate_init to zero over max_iter epochs;
        a callable gives the rate of epoch 0, 1, ... itself. "lbfgs" has no learning rate.
    learning_rate_init : float > 0, default=0.001
    power_t : float >= 0, default=0.5
        For "invscaling".
    max_iter : int >= 1, default=200
        Epochs at most (iterations of "lbfgs").
    shuffle : bool, default=True
        Whether the minibatches are drawn anew every epoch.
    random_state : int, RandomState or None, default=None
        Of the initial weights, the minibatches, the examples that early stopping sets aside, and dropout.
    tol : float >= 0, default=1e-4
        An epoch that lowers the loss (raises the validation score) by less than this is no improvement.
    verbose : int or bool, default=False
        1 shows a progress bar, 2 and more print a line an epoch.
    warm_start : bool, default=False
        Whether fit goes on from the weights that there are.
    momentum : float in [0, 1], default=0.9
        For "sgd".
    nesterovs_momentum : bool, default=True
        For "sgd" with momentum > 0.
    early_stopping : bool, default=False
        Stop when the score of examples that are not trained on has not improved for n_iter_no_change epochs; the
        weights with the best score stand.
    validation_fraction : float in [0, 1), default=0.1
        The part of the examples that early stopping sets aside.
    beta_1, beta_2 : float in [0, 1), default=0.9, 0.999
        Adam's decays.
    epsilon : float > 0, default=1e-8
        Adam's.
    n_iter_no_change : int or inf, default=10
        More epochs than this without an improvement end the training.
    max_fun : int >= 1, default=15000
        Evaluations of the loss by "lbfgs" at most.
    l2 : float >= 0, optional
        lambda of eq. 5, in place of alpha: not divided by the examples of a minibatch.
    weight_decay : float >= 0, default=0.01
        Of "adamw": every update also takes learning rate * weight_decay * W from the weights, beside alpha or l2.
    max_gradient_norm : float > 0, optional
        A longer gradient (Euclidean, over all weights and biases) is scaled down to this length; not for "lbfgs".
    dropout : float in [0, 1), default=0.0
        The part of the hidden units that each update leaves out; not for "lbfgs".
    scoring : str or callable, optional
        What validation_scores_ holds; R^2 when not given.
    init : {"glorot", "he", "small"}, default="glorot"
        Initial weights: scikit-learn's, He's (2015; biases zero), or the lecture's (normal, standard deviation 0.01).
    n_threads : int >= 1, optional
        Threads on the CPU; numba.get_num_threads() when not given. The result does not depend on it.
    device : {"cpu", "cuda", "auto"}, default="cpu"
        "cuda" is an NVIDIA GPU, with the extra `fastmlp[cuda]`; "auto" takes it where there is a usable one and the
        fit is long enough to be faster there. Predictions of few rows, and those after "auto", are made on the CPU.
    precision : {"float32", "tf32", "bf16"}, default="float32"
        What products are multiplied in while fitting; the lower ones make the network float32, whatever X is, and need
        a processor or a GPU that has them (see Network); not for "lbfgs". Predictions are made in the weights' dtype.

    Attributes
    ----------
    coefs_, intercepts_ : list of ndarray
        W of each layer, (n_in, n_out), and b, (n_out,).
    loss_, best_loss_ : float
        The loss of the last epoch, and the lowest (None with early stopping).
    loss_curve_ : list of float
        The loss of each epoch, averaged over its minibatches as they were seen. Not there with "lbfgs".
    validation_scores_, best_validation_score_ : list of float, float; None without early stopping or eval_set
    validation_curve_ : list of float
        The loss of the validation examples after each epoch, without the penalty. Only there with validation_scores_.
    n_iter_, t_ : int
        Epochs, and examples seen.
    n_layers_, n_outputs_, n_features_in_ : int
    feature_names_in_ : ndarray of str
        Where X had names.
    out_activation_ : str
    jit_predict_ : callable
        `predict` as a function for code that Numba compiles.

    Notes
    -----
    `set_callbacks` takes scikit-learn's callbacks (sklearn.callback: ProgressBar, ScoringMonitor, your own), which are
    called after each epoch. Ctrl-C ends the training with a warning; the weights of that moment are kept. A training
    whose weights are no longer finite ends at once, with scikit-learn's error.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp import MLPRegressor
    >>> X = np.linspace(-3, 3, 200)[:, None]
    >>> regressor = MLPRegressor(activation="tanh", solver="lbfgs", random_state=0).fit(X, np.sin(X[:, 0]))
    >>> bool(regressor.score(X, np.sin(X[:, 0])) > 0.99)
    True
    """

    _parameter_constraints: dict[str, list[Any]] = {
        **_MLP._parameter_constraints,
        "loss": [StrOptions({"squared_error", "poisson", "huber", "absolute_error"}), HasMethods(["f", "df"])],
    }
    _score_function = staticmethod(r_squared)

    def __init__(
        self,
        loss="squared_error",
        hidden_layer_sizes=(100,),
        activation="relu",
        *,
        solver="adam",
        alpha=DEFAULT_ALPHA,
        batch_size="auto",
        learning_rate="constant",
        learning_rate_init=0.001,
        power_t=0.5,
        max_iter=200,
        shuffle=True,
        random_state=None,
        tol=1e-4,
        verbose=False,
        warm_start=False,
        momentum=0.9,
        nesterovs_momentum=True,
        early_stopping=False,
        validation_fraction=0.1,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
        n_iter_no_change=10,
        max_fun=15000,
        l2=None,
        weight_decay=0.01,
        max_gradient_norm=None,
        dropout=0.0,
        scoring=None,
        init="glorot",
        n_threads=None,
        device="cpu",
        precision="float32",
    ):
        self._keep(locals())

    def _output_activation(self) -> str:
        return "exp" if self.loss == "poisson" else "identity"

    def _check_more(self, y) -> None:
        if self.loss == "poisson" and np.any(y < 0):
            raise ValueError("Some value(s) of y are negative; loss='poisson' allows y >= 0")

    def _targets(self, y) -> np.ndarray:
        T = y.reshape(len(y), -1)
        return T if T.dtype in NUMBERS else T.astype(np.float64)

    def _from_outputs(self, outputs: np.ndarray) -> np.ndarray:
        return outputs.ravel() if outputs.shape[1] == 1 else outputs

    def _jit_predict(self, forward):
        @numba.njit(nogil=True)
        def jit_predict_one(X):
            return forward(X)[:, 0]

        return jit_predict_one if self.n_outputs_ == 1 else forward

    def predict(self, X):
        """Values at the examples.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (m, n_features)

        Returns
        -------
        y : ndarray of shape (m,) or (m, n_outputs)
        """
        return self._from_outputs(self._outputs(X))

    @available_if(_partial_fit_is_there)
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, sample_weight=None):
        """One epoch over the given data, from the weights and the optimizer's state as they are.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (m, n_features)
        y : array-like of shape (m,) or (m, n_outputs)
        sample_weight : array-like of shape (m,), optional

        Returns
        -------
        self
        """
        return self._fit(X, y, sample_weight, incremental=True)
