"""What ails it: the diagnosis of a network or an estimator, and of its training."""

import copy
import math
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from fastmlp import inputs
from fastmlp.conversion import (
    as_estimator,
    examples_of,
    fitted_estimator,
    nested,
    network_of,
    optimizer_batch_size,
    optimizer_of,
    seen_targets,
)
from fastmlp.gradient_check import slope_of
from fastmlp.network import Network
from fastmlp.optimizers import LBFGS, SGD, Adam, GradientDescent, Optimizer, rule
from fastmlp.training import DivergenceError, History, check_batch_size, learning_rate_of

EXAMPLES = 2000  # are looked at, at most: enough for shares and means, and quick
LARGE_INPUT = 3.0  # of a mean or a standard deviation: LeCun et al. (1998, "Efficient BackProp", 4.3) want 0 and 1
LARGE_TARGET = 10.0  # the same of a linear output's targets, which biases can follow
SMALL_INPUT = 0.05  # standard deviation of the feature that varies most
ONE_SIDED = 2.0  # mean over standard deviation, of the middle feature: units' z are then shifted more than spread
DIVERGED = 100.0  # times the loss of the best constant, and the usual weights
FEW_EXAMPLES = 20  # on fewer many a healthy unit is at rest
DEAD_SHARE = 0.4  # of a layer's units (Karpathy, CS231n); a quarter are in many a healthy ReLU network
STEEPEST = {"logistic": 0.25, "tanh": 1.0}  # their largest f'
SATURATED_SLOPE = 0.05  # of the largest f'; Glorot and Bengio (2010, section 3) watch |a| near 1 in the same way
SATURATED_EXAMPLES = 0.9  # share of them on which a unit is saturated, for it to be called so
SATURATED_SHARE = 0.2  # of a layer's units
WRONG_AND_FLAT = 0.1  # share of outputs that are saturated far from their targets
VANISHING = 1e-3  # rms of delta in the first hidden layer over that of the output (Glorot and Bengio, 2010, figure 7)
EXPLODING = 1e2
LARGE_UPDATE = 2e-1  # of weights, relative to them: about 1e-3 is right (Karpathy, CS231n), Adam's 1e-2 do no harm
SMALL_UPDATE = 1e-5
TRIAL_EPOCHS, TRIAL_UPDATES = 3, 20  # of a trial with another learning rate, the more of the two
TOO_HIGH = 0.1  # of the loss of the best constant: what a tenth of the rate must gain in a trial
WORSE_THAN_CONSTANT = 0.02  # the same where the loss is beyond that of the constant, as biases alone would not be
TOO_LOW = 0.2  # the same for ten times the rate and more
RISING = 0.05  # of what J has fallen by: the mean rise from one epoch to the next, in the curve's second half
STILL_FALLING = 0.1  # of what J has fallen by: its fall in the curve's last quarter
CURVE = 5  # epochs that a curve must have to say something
UNDERFIT = 0.9  # of the loss of the best constant
UNFINISHED = 0.25  # of it: where the curve still falls, more epochs help
OVERFIT_RISE = 0.2  # of the validation loss' fall, or of its lowest: its rise thereafter
OVERFIT_GAP = 0.2  # of the loss of the best constant: between training and validation
NEAR_MOST = 1e-5  # relative difference of units that are called equal: float32's rounding in sums
DISTANCES = ("squared_error", "huber", "absolute_error")  # losses of a - y


class Finding(NamedTuple):
    """Something that is probably wrong.

    Attributes
    ----------
    subject : str
        What it is about, such as "dead units" or "learning rate too high".
    layer : int or None
        The lecture's l, 2 ... L, where it is about one layer.
    value : float
        The number behind it.
    message : str
        What was seen, with the number.
    advice : str
        What to try.
    """

    subject: str
    layer: int | None
    value: float
    message: str
    advice: str

    def __str__(self) -> str:
        where = "" if self.layer is None else f" in layer {self.layer}"
        return f"{self.subject}{where}: {self.message} -> {self.advice}"


LAYER = np.dtype(
    [("layer", int), ("units", int)]
    + [(n, float) for n in ("mean", "std", "dead", "saturated", "delta", "gradient", "weights", "update_ratio")]
)


@dataclass(frozen=True, eq=False, repr=False)
class Diagnosis:
    """What `diagnose` has found; printed, it is a report.

    Attributes
    ----------
    layers : structured ndarray of shape (L - 1,)
        A row for each of the layers 2 ... L; `pandas.DataFrame(diagnosis.layers)` is a table. "layer"; "units"; "mean"
        and "std" of a; "dead", the share of units with f' = 0 on all examples; "saturated", the share of units whose f'
        is below a twentieth of its largest on nine tenths of the examples; "delta", the rms of delta^(l) (eq. 8-9);
        "gradient", the rms of dJ/dW of the weights below (eq. 12); "weights", their rms; "update_ratio", the rms of
        an update of them over "weights".
    findings : list of Finding
        The most important first; empty where nothing was found wrong.
    loss : float
        The mean loss of the examples, without the penalty of eq. 5.
    baseline : float
        That of the best constant prediction; NaN where it is not known (for a loss of the user's own).
    examples : int
        How many were looked at.
    title : str
        Of the report: the model.
    """

    layers: np.ndarray
    findings: list[Finding]
    loss: float
    baseline: float
    examples: int
    title: str

    def __repr__(self) -> str:
        lines = [self.title, f"on {self.examples} examples the loss is {self.loss:.3g}"]
        if not math.isnan(self.baseline):
            lines[-1] += f", that of the best constant prediction {self.baseline:.3g}"
        names = "layer", "units", "mean a", "std a", "dead", "saturated", "rms delta", "rms dJ/dW", "rms W", "update/W"
        table = [[*names]]
        for layer, units, mean, std, dead, saturated, *sizes in self.layers.tolist():
            shares = [f"{share:.0%}" for share in (dead, saturated)]
            numbers = ["" if math.isnan(x) else f"{x:.2g}" for x in sizes]
            table.append([str(layer), str(units), f"{mean:.2g}", f"{std:.2g}", *shares, *numbers])
        widths = [max(map(len, column)) for column in zip(*table)]
        lines += ["", *("  ".join(map(str.rjust, row, widths)).rstrip() for row in table), ""]
        for number, finding in enumerate(self.findings, 1):
            lines += textwrap.wrap(f"{number}. {finding}", 110, subsequent_indent="   ")
        return "\n".join(lines if self.findings else [*lines, "Nothing found wrong."])


@dataclass
class _Case:
    """A network, the examples it is looked at with, and what is known of its training."""

    network: Network
    X: Any
    T: Any
    optimizer: Any = None
    rate: float = math.nan  # the highest learning rate so far
    steady: bool = True  # whether that is the present one
    batch_size: int | None = None
    curve: Any = ()
    validation_curve: Any = ()
    best_stands: bool = False  # whether the weights are those with the best validation
    outputs_per_loss: int = 1  # the curves are divided by
    trained: bool = False
    validation: Any = None

    def __post_init__(self) -> None:
        network = self.network
        self.passed = network.layers(self.X)
        self.h = np.asarray(self.passed[-1][1], np.float64)
        self.deltas = network.deltas(self.X, self.T)
        self.gradients = network.gradients(self.X, self.T)[0]
        if self.T.ndim == 1:  # labels
            self.targets: np.ndarray = np.zeros(self.h.shape)
            self.targets[np.arange(len(self.T)), self.T] = 1.0
        else:
            self.targets = np.asarray(self.T, np.float64)
        self.loss = _loss(network, self.X, self.T)
        self.finite = math.isfinite(self.loss) and all(np.isfinite(part).all() for pair in self.passed for part in pair)
        self.baseline = _baseline(network, self.X, self.T, self.targets)
        known = math.isfinite(self.baseline) and self.baseline > 0
        self.scale = self.baseline if known else abs(self.loss) or 1.0


def diagnose(
    model: Any,
    X: Any,
    T: Any,
    *,
    history: History | None = None,
    optimizer: Optimizer | None = None,
    batch_size: int | None = None,
    validation: tuple[Any, Any] | None = None,
) -> Diagnosis:
    """What may be wrong with a network and its training, each finding with the number behind it and what to try.

    Parameters
    ----------
    model : Network, or a fitted MLPClassifier or MLPRegressor
        It is not changed. An estimator may be in a Pipeline, a TransformedTargetRegressor or a search: it is looked at
        with what it sees of X and y there.
    X : array-like or CSR matrix of shape (m, n_in)
        What it is trained on. At most 2000 of the examples, drawn with a fixed seed, are looked at.
    T : array-like, (m, n_out) or what the model is trained with
        Targets of a Network; y of an estimator.
    history : History, optional
        What `Network.train` returned: the curves tell of learning rate and overfitting. An estimator has its own.
    optimizer : GradientDescent, SGD, Adam or LBFGS, optional
        For a Network: the one that it was last trained with when not given. Without any, and with L-BFGS, nothing is
        said of the learning rate. An estimator has its own.
    batch_size : int >= 1, optional
        Of a Network's training with SGD or Adam: min(200, m) when not given.
    validation : (X, T), optional
        Examples that it is not trained on, to tell overfitting without curves.

    Returns
    -------
    diagnosis : Diagnosis
        Printed, it is a report; `findings` (each with subject, layer, value, message, advice), `layers` (a structured
        array), `loss` and `baseline` hold the same as data.

    Raises
    ------
    TypeError
        When model is none.
    ValueError
        When another argument does not suit it.

    Notes
    -----
    Looked for are, in the order of the findings: numbers that are not finite, or as large as divergence leaves them;
    targets out of the output's range, units that are all equal, a
    learning rate too high, inputs and targets that are not scaled, exploding and vanishing delta (eq. 9), dead and
    saturated units, updates too large or too small for the weights, a learning rate too low, predictions of one class
    only, underfitting and overfitting. The low rate, the one class and underfitting are for models that have been
    trained: an estimator, and a Network with a history or with the state of an optimizer.

    Learning rates are tried, not only inferred: copies of the network (with the state of its optimizer) are trained on
    for some epochs with a tenth of the rate, with the rate itself, and with ten times as much and more. Of a schedule
    the highest rate so far is meant. "update_ratio" is for one update with the gradient of all the examples: the
    learning rate times dJ/dW over W, divided by 1 - momentum; for Adam, whose steps are about as long as its learning
    rate, that over W.

    Weights of examples and classes are not taken into account.

    Examples
    --------
    >>> import numpy as np
    >>> import fastmlp
    >>> X = np.random.default_rng(0).normal(100.0, 50.0, (200, 3))
    >>> T = (X[:, :1] > 100).astype(float)
    >>> net = fastmlp.Network([3, 8, 1], activation="tanh", init="glorot", loss="log_loss", random_state=0)
    >>> for finding in fastmlp.diagnose(net, X, T).findings:
    ...     print(finding.subject)
    unscaled inputs
    saturated units
    """
    case = (_network_case if isinstance(model, Network) else _estimator_case)(
        model, X, T, history, optimizer, batch_size, validation
    )
    layers = _layers(case)
    checks: tuple[Iterator[Finding], ...] = (
        _out_of_bounds(case),
        _targets_out_of_range(case),
        _equal_units(case),
        _learning_rate_too_high(case),
        _unscaled_inputs(case),
        _unscaled_targets(case),
        _deltas(case, layers),
        _idle_units(case, layers),
        _updates(case, layers),
        _learning_rate_too_low(case),
        _one_class(case),
        _underfitting(case),
        _overfitting(case),
    )
    if not case.finite:  # of numbers that are none, nothing else can be said
        checks = _out_of_bounds(case), _targets_out_of_range(case), _unscaled_inputs(case), _unscaled_targets(case)
    findings = [finding for check in checks for finding in check]
    title = repr(model) if isinstance(model, Network) else f"{type(model).__name__}, {case.network!r}"
    return Diagnosis(layers, findings, case.loss, case.baseline, case.X.shape[0], title)


def _some(X: Any, T: Any) -> tuple[Any, Any]:
    """At most EXAMPLES of the examples, always the same."""
    m = X.shape[0]
    if m <= EXAMPLES:
        return X, T
    rows = np.sort(np.random.default_rng(0).choice(m, EXAMPLES, replace=False))
    return X[rows], T[rows]


def _pair(validation: Any) -> tuple[Any, Any]:
    try:
        X, T = validation
    except (TypeError, ValueError):
        raise ValueError("validation is not a pair; (X, T) is allowed") from None
    return X, T


def _network_case(
    network: Network, X: Any, T: Any, history: Any, optimizer: Any, batch_size: Any, validation: Any
) -> _Case:
    if history is not None and not isinstance(history, History):
        raise ValueError(f"history is {type(history).__name__}; what Network.train returns is allowed")
    X, T, _ = network._data(X, T, None)
    if optimizer is None:
        optimizer = network._optimizer
    elif not isinstance(optimizer, (GradientDescent, SGD, Adam, LBFGS)):
        raise ValueError(f"optimizer is {optimizer!r}; a GradientDescent, SGD, Adam or LBFGS object is allowed")
    if optimizer is not None:
        batch_size = check_batch_size(batch_size, optimizer, X.shape[0])
    elif batch_size is not None:
        raise ValueError(f"batch_size is {batch_size!r} and no optimizer is known; with one it is allowed")
    known: dict[str, Any] = {}
    if isinstance(optimizer, (GradientDescent, SGD, Adam)):
        epochs = network._epochs if network._optimizer == optimizer else 0
        if not callable(optimizer.learning_rate):
            epochs = 1
        rates = [learning_rate_of(optimizer.learning_rate, epoch) for epoch in range(max(1, epochs))]
        known = {"optimizer": optimizer, "rate": max(rates), "steady": rates[-1] == max(rates)}
    if history is not None:
        known |= {"curve": history.objective, "validation_curve": history.validation or ()}
        known["best_stands"] = history.stopped == "patience"
    if validation is not None:
        validation = _some(*network._data(*_pair(validation), None, "validation ")[:2])
    updated = network._optimizer is not None and network._updates > 0
    trained = updated or len(known.get("curve", ())) > 0
    return _Case(network, *_some(X, T), batch_size=batch_size, validation=validation, trained=trained, **known)


def _estimator_case(
    model: Any, X: Any, y: Any, history: Any, optimizer: Any, batch_size: Any, validation: Any
) -> _Case:
    estimator: Any = as_estimator(nested(model)[-1])
    for name, value in (("history", history), ("optimizer", optimizer), ("batch_size", batch_size)):
        if value is not None:
            raise ValueError(f"{name} is given; an estimator has its own: None is allowed")
    estimator, transform = fitted_estimator(model)

    def seen(X: Any, y: Any) -> tuple[Any, Any]:
        return examples_of(estimator, transform(X), seen_targets(model, y))

    X, T = seen(X, y)
    rows = X.shape[0]
    network = network_of(estimator, rows)
    X, T, _ = network._data(X, T, None)
    if validation is not None:
        validation = _some(*network._data(*seen(*_pair(validation)), None, "validation ")[:2])
    known: dict[str, Any] = {}
    if estimator.solver != "lbfgs":
        rate = highest = float(estimator.learning_rate_init)
        state = getattr(estimator, "_optimizer", None)
        if callable(estimator.learning_rate):
            rates = [learning_rate_of(estimator.learning_rate, epoch) for epoch in range(max(1, estimator.n_iter_))]
            rate, highest = rates[-1], max(rates)
        elif estimator.learning_rate == "cosine":
            rate = 0.0
        elif state is not None:
            rate = state.learning_rate
        known = {"optimizer": optimizer_of(estimator), "rate": highest, "steady": rate == highest}
        if state is not None and state.settings["rule"] == rule(known["optimizer"]):
            network._trainer.set_moments(state.moments())
            network._optimizer, network._updates = known["optimizer"], state.updates
    curves = getattr(estimator, "loss_curve_", ()), getattr(estimator, "validation_curve_", ())
    return _Case(
        network,
        *_some(X, T),
        batch_size=optimizer_batch_size(estimator, rows),
        curve=curves[0],
        validation_curve=curves[1],
        best_stands=estimator.early_stopping,
        outputs_per_loss=network.sizes[-1] if network.loss in DISTANCES else 1,
        trained=True,
        validation=validation,
        **known,
    )


# ---- what is measured ----------------------------------------------------------------------------------------------


def _rms(array: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(array, dtype=np.float64))))


def _loss(network: Network, X: Any, T: Any) -> float:
    """The mean loss, without eq. 5."""
    with network._lock:
        loss = network._trainer._pass(X, T, None, "evaluate").mean_loss()
    if network.loss == "poisson":  # the kernels leave out what depends on y alone
        from scipy.special import xlogy

        loss += float((xlogy(T, T) - T).sum(axis=1, dtype=np.float64).mean())
    return loss


def _baseline(network: Network, X: Any, T: Any, targets: np.ndarray) -> float:
    """The mean loss of the best constant prediction; NaN where it is not known."""
    from scipy.special import entr

    mean = targets.mean(axis=0)
    if network.loss == "squared_error":
        return 0.5 * float(targets.var(axis=0).sum())
    if network.loss == "log_loss":
        return float(entr(mean).sum() + (0.0 if network.output == "softmax" else entr(1 - mean).sum()))
    if not isinstance(network.loss, str):
        return math.nan
    twin = copy.deepcopy(network)
    twin.weights = [np.zeros_like(W) for W in network.weights]
    losses = []
    for constant in (mean, np.median(targets, axis=0)):
        if network.output == "exp":
            constant = np.log(np.maximum(constant, np.finfo(np.float32).tiny))
        twin.biases = [*(np.zeros_like(b) for b in network.biases[:-1]), constant]
        losses.append(_loss(twin, X, T))
    return min(losses)


def _layers(case: _Case) -> np.ndarray:
    """The table of `Diagnosis.layers`."""
    network, optimizer = case.network, case.optimizer
    table = np.zeros(len(case.passed), LAYER)
    for l, (row, (z, a)) in enumerate(zip(table, case.passed)):
        f = network.output if l == len(case.passed) - 1 else network.activation
        weights, gradient = _rms(network.weights[l]), _rms(case.gradients[l])
        update = case.rate * gradient
        if isinstance(optimizer, SGD):
            update /= 1 - optimizer.momentum
        elif isinstance(optimizer, Adam):
            update = case.rate
        dead, saturated = _idle(f, z, a)
        row["layer"], row["units"] = l + 2, a.shape[1]
        row["mean"], row["std"] = np.mean(a, dtype=np.float64), np.std(a, dtype=np.float64)
        row["dead"], row["saturated"] = dead.mean(), saturated.mean()
        row["delta"], row["gradient"], row["weights"] = _rms(case.deltas[l]), gradient, weights
        row["update_ratio"] = update / weights if weights > 0 else math.nan if math.isnan(update) else math.inf
    return table


def _idle(f: Any, z: np.ndarray, a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n,) bool each: which units are dead, f' = 0 on all examples, and which are saturated."""
    nobody = np.zeros(a.shape[1], bool)
    if f == "relu":
        return (a == 0).all(axis=0), nobody
    if isinstance(f, str) and f not in STEEPEST:
        return nobody, nobody
    slope = np.abs(slope_of(f, z, a))
    largest = STEEPEST[f] if isinstance(f, str) else float(np.nanmax(slope, initial=0.0))
    dead = nobody if isinstance(f, str) else (slope == 0).all(axis=0)
    return dead, ((slope < SATURATED_SLOPE * largest).mean(axis=0) >= SATURATED_EXAMPLES) & ~dead


def _trial(case: _Case, rate: float) -> float:
    """The loss after some epochs from here with a learning rate; infinite where training diverges."""
    twin, optimizer = copy.deepcopy(case.network), replace(case.optimizer, learning_rate=rate)
    if twin._optimizer == case.optimizer:
        twin._optimizer = optimizer  # so that its state goes on
    each = None if isinstance(optimizer, GradientDescent) else case.batch_size
    m = case.X.shape[0]
    epochs = max(TRIAL_EPOCHS, math.ceil(TRIAL_UPDATES / math.ceil(m / (each or m))))
    try:
        with np.errstate(all="ignore"):
            history = twin.train(case.X, case.T, optimizer=optimizer, batch_size=each, epochs=epochs)
            if history.stopped == "interrupted":
                raise KeyboardInterrupt
            loss = _loss(twin, case.X, case.T)
    except DivergenceError:
        return math.inf
    return loss if math.isfinite(loss) else math.inf


# ---- what is looked for --------------------------------------------------------------------------------------------

SCALE = "scale each input to mean 0 and standard deviation 1 (sklearn.preprocessing.StandardScaler)"
LOWER = "a learning rate of a tenth, or fastmlp.find_learning_rate"


def _targets_out_of_range(case: _Case) -> Iterator[Finding]:
    bounds = {"logistic": (0.0, 1.0), "tanh": (-1.0, 1.0), "relu": (0.0, math.inf), "softplus": (0.0, math.inf)}
    output, T = case.network.output, case.targets
    if not isinstance(output, str) or output not in bounds:
        return
    low, high = bounds[output]
    outside = float(((low > T) | (high < T)).mean())
    if outside > 0:
        allowed = f"within [{low:g}, {high:g}]" if high < math.inf else "not negative"
        yield Finding(
            "targets out of range",
            len(case.network.sizes),
            outside,
            f"{outside:.2%} of the targets, from {T.min():.3g} to {T.max():.3g}, are not what output={output!r} can "
            f"reach, which is {allowed}",
            "output='identity', or targets scaled into that range",
        )


def _out_of_bounds(case: _Case) -> Iterator[Finding]:
    start = "start anew, with a lower learning rate, scaled inputs and targets, max_gradient_norm"
    if not case.finite:
        there = [l for l, (z, a) in enumerate(case.passed) if not (np.isfinite(z).all() and np.isfinite(a).all())]
        layer = there[0] + 2 if there else len(case.passed) + 1
        wrong = ~np.isfinite(case.passed[layer - 2][0]).all(axis=1)
        yield Finding(
            "not finite",
            layer,
            float(wrong.sum()) if there else case.loss,
            f"z is infinite or no number on {wrong.sum()} of {len(wrong)} examples" if there else f"J is {case.loss}",
            f"weights so large are no start: {start}",
        )
        return
    sizes = case.network.sizes
    grown = [_rms(W) / math.sqrt(2 / sum(shape)) for W, shape in zip(case.network.weights, zip(sizes, sizes[1:]))]
    if case.loss > DIVERGED * case.scale and max(grown) > DIVERGED:
        yield Finding(
            "diverged",
            int(np.argmax(grown)) + 2,
            case.loss / case.scale,
            f"the loss is {case.loss:.3g}, {case.loss / case.scale:.3g} times that of the best constant prediction; "
            f"the weights are {max(grown):.3g} times as large as at init='glorot'",
            f"a learning rate too high has left them: {start}",
        )


def _equal(columns: np.ndarray) -> bool:
    return bool(np.abs(columns - columns[:, :1]).max() <= NEAR_MOST * np.abs(columns).max())


def _equal_units(case: _Case) -> Iterator[Finding]:
    for l, ((z, _), delta) in enumerate(zip(case.passed[:-1], case.deltas)):
        if z.shape[1] > 1 and _equal(z) and _equal(delta):
            yield Finding(
                "equal units",
                l + 2,
                z.shape[1],
                f"all {z.shape[1]} units have the same z and delta on every example, so that no update (eq. 12) will "
                "ever tell them apart",
                "start from random weights: init='glorot' or 'he'",
            )


def _learning_rate_too_high(case: _Case) -> Iterator[Finding]:
    subject = "learning rate too high"
    curve = np.asarray(case.curve, float)
    if len(curve) >= CURVE and case.optimizer is not None:
        lowest = curve.min()
        fall = max(curve[0] - lowest, RISING * abs(lowest))
        steps = np.diff(curve)[-(len(curve) // 2) :]
        rise = float(np.maximum(steps, 0).mean())
        if rise > RISING * fall:
            yield Finding(
                subject,
                None,
                rise,
                f"J rises in {np.sum(steps > 0)} of the last {len(steps)} epochs, {rise:.3g} on average over them, "
                f"from {curve[0]:.3g} at first, {lowest:.3g} at best, {curve[-1]:.3g} at last; the rate was "
                f"{case.rate:.3g}",
                f"{LOWER}; a schedule that falls",
            )
            return
    if case.optimizer is None or not case.steady or case.rate == 0:
        return
    here, lower = _trial(case, case.rate), min(case.loss, _trial(case, 0.1 * case.rate))
    gain = here - lower
    much = gain > TOO_HIGH * case.scale and gain > 0.5 * abs(lower)
    if much or (here > case.baseline and gain > WORSE_THAN_CONSTANT * case.scale):
        seen = "diverges" if here == math.inf else f"takes the loss to {here:.3g}"
        yield Finding(
            subject,
            None,
            here,
            f"training on from here, from {case.loss:.3g}, with the rate {case.rate:.3g} {seen}; a tenth of the rate, "
            f"or none, leaves it at {lower:.3g}",
            f"{LOWER}; max_gradient_norm",
        )


def _unscaled_inputs(case: _Case) -> Iterator[Finding]:
    if case.X.shape[0] == 1:
        return
    X = case.X.astype(np.float64)
    mean = np.asarray(X.mean(axis=0)).ravel()
    if inputs.is_sparse(X):
        square = np.asarray(X.multiply(X).mean(axis=0)).ravel()
        lows, highs = (np.asarray(found.toarray()).ravel() for found in (X.min(axis=0), X.max(axis=0)))
        std = np.sqrt(np.maximum(square - mean * mean, 0.0))
    else:
        lows, highs, std = X.min(axis=0), X.max(axis=0), X.std(axis=0)
    varies = highs > lows
    std = np.where(varies, std, 0.0)
    constant = np.flatnonzero(~varies & (lows != 0))
    if len(constant) or not varies.any():
        first = constant[0] if len(constant) else 0
        yield Finding(
            "constant inputs",
            None,
            len(constant) or len(mean),
            f"{len(constant) or len(mean)} of {len(mean)} inputs are constant, such as column {first}, which is "
            f"{lows[first]:.3g}",
            "leave them out: they tell nothing that biases do not",
        )
    size = np.where(varies, np.maximum(np.abs(mean), std), 0.0)
    far, worst = int((size > LARGE_INPUT).sum()), int(size.argmax())
    if far:
        yield Finding(
            "unscaled inputs",
            None,
            float(size[worst]),
            f"{far} of {len(mean)} inputs are far from mean 0 and standard deviation 1: column {worst} has "
            f"{mean[worst]:.3g} and {std[worst]:.3g}",
            SCALE,
        )
        return
    if varies.any() and std.max() < SMALL_INPUT:
        yield Finding(
            "unscaled inputs",
            None,
            float(std.max()),
            f"no input has a standard deviation beyond {std.max():.3g}",
            SCALE,
        )
        return
    one_sided = varies.any() and (lows.min() >= 0 or highs.max() <= 0)
    if one_sided and case.network.activation in ("logistic", "tanh") and len(case.passed) > 1:
        shift = float(np.median(np.abs(mean[varies]) / np.maximum(std[varies], 1e-300)))
        if shift > ONE_SIDED:
            yield Finding(
                "one-sided inputs",
                None,
                shift,
                f"all inputs have one sign, and their means are {shift:.3g} times their standard deviations in the "
                f"median: they shift every z of layer 2 towards saturation",
                SCALE,
            )


def _unscaled_targets(case: _Case) -> Iterator[Finding]:
    network, T = case.network, case.targets
    linear = network.output == "identity" and network.loss in DISTANCES
    size = np.maximum(np.abs(T.mean(axis=0)), T.std(axis=0))
    worst = int(size.argmax())
    if linear and size[worst] > LARGE_TARGET and not (case.trained and case.loss < 0.5 * case.scale):
        yield Finding(
            "unscaled targets",
            None,
            float(size[worst]),
            f"output {worst} has targets with mean {T[:, worst].mean():.3g} and standard deviation "
            f"{T[:, worst].std():.3g}, which weights and biases near zero are far from",
            "scale T to mean 0 and standard deviation 1 (sklearn.compose.TransformedTargetRegressor)",
        )


def _deltas(case: _Case, layers: np.ndarray) -> Iterator[Finding]:
    hidden = len(layers) - 1
    first, last = layers["delta"][0], layers["delta"][-1]
    if hidden == 0 or last == 0 or layers["dead"].max() == 1 or any(_equal_units(case)):  # which say why
        return
    ratio = float(first / last)
    factor = f"{ratio ** (1 / hidden):.3g} a layer"
    seen = f"its rms is {first:.3g} in layer 2 and {last:.3g} in layer {hidden + 2}, {ratio:.3g} times as much"
    if ratio > EXPLODING:
        yield Finding(
            "exploding delta",
            2,
            ratio,
            f"{seen} ({factor})",
            "smaller initial weights (init='glorot', or 'he' for relu), a lower learning rate, max_gradient_norm",
        )
    elif ratio < VANISHING:
        yield Finding(
            "vanishing delta",
            2,
            ratio,
            f"{seen} ({factor})",
            "activation='relu' with init='he' (or 'tanh' with 'glorot'), fewer layers, scaled inputs",
        )


def _idle_units(case: _Case, layers: np.ndarray) -> Iterator[Finding]:
    network = case.network
    for l, (row, (z, a)) in enumerate(zip(layers, case.passed)):
        units, share = int(row["units"]), float(row["dead"])
        if share >= DEAD_SHARE and len(a) >= FEW_EXAMPLES:
            yield Finding(
                "dead units",
                l + 2,
                share,
                f"{round(share * units)} of {units} units ({share:.0%}) have f' = 0 on all {len(a)} examples, and get "
                "no gradient",
                "a lower learning rate, init='he', scaled inputs; activation='softplus' or 'tanh', which do not die",
            )
        if l < len(layers) - 1:
            share = float(row["saturated"])
            if share > SATURATED_SHARE:
                yield Finding(
                    "saturated units",
                    l + 2,
                    share,
                    f"{round(share * units)} of {units} units ({share:.0%}) have f' below {SATURATED_SLOPE:.0%} of its "
                    f"largest on {SATURATED_EXAMPLES:.0%} of the examples or more",
                    "scaled inputs, smaller initial weights (init='glorot'), a lower learning rate, l2",
                )
        elif network.loss == "squared_error" and network.output in tuple(STEEPEST):
            # an output may be saturated where it is right; with log loss f' cancels (eq. 8)
            flat = slope_of(network.output, z, a) < SATURATED_SLOPE * STEEPEST[network.output]
            share = float((flat & (np.abs(a - case.targets) > 0.5)).mean())
            if share > WRONG_AND_FLAT:
                logistic = network.output == "logistic"
                yield Finding(
                    "saturated units",
                    l + 2,
                    share,
                    f"{share:.0%} of the outputs are wrong by more than 0.5 where f' is below {SATURATED_SLOPE:.0%} "
                    "of its largest, which keeps delta (eq. 8) small",
                    f"{'log_loss, ' if logistic else ''}smaller initial weights, a lower learning rate",
                )


def _updates(case: _Case, layers: np.ndarray) -> Iterator[Finding]:
    if case.optimizer is None or case.rate == 0:
        return
    sizes = case.network.sizes
    for row, n_in, n_out in zip(layers, sizes, sizes[1:]):
        # weights that are still near zero, the lecture's start, have to grow
        grown = row["weights"] >= 0.5 * math.sqrt(2 / (n_in + n_out))
        if grown and row["update_ratio"] > LARGE_UPDATE:
            yield Finding(
                "large updates",
                int(row["layer"]),
                float(row["update_ratio"]),
                f"an update is about {row['update_ratio']:.2g} times as large as the weights; 0.001 is usual",
                f"{LOWER}; max_gradient_norm",
            )
    # where the loss is low, the gradient is small for a good reason
    ratios = layers["update_ratio"]
    if ratios.max() < SMALL_UPDATE and case.loss > 0.5 * case.scale and layers["dead"].max() < 1:
        yield Finding(
            "small updates",
            int(layers["layer"][ratios.argmax()]),
            float(ratios.max()),
            f"an update is about {ratios.max():.2g} times as large as the weights, and less in other layers; 0.001 is "
            "usual",
            "a higher learning rate, Adam, scaled inputs",
        )


def _fall_at_end(case: _Case) -> float | None:
    """What J fell by in the last quarter of its curve; 0 where it is little of the whole fall, None without a curve."""
    curve = np.asarray(case.curve, float)
    if len(curve) < CURVE:
        return None
    fall = float(curve[-1 - len(curve) // 4] - curve[-1])
    return fall if fall > STILL_FALLING * (curve[0] - curve[-1]) else 0.0


def _learning_rate_too_low(case: _Case) -> Iterator[Finding]:
    if case.optimizer is None or not case.trained or case.rate == 0:
        return
    fall = _fall_at_end(case)
    if fall == 0:
        return
    here = _trial(case, case.rate)
    if here == math.inf:
        return
    for times in (10, 100, 1000, 10_000, 100_000):
        there = _trial(case, times * case.rate)
        if here - there > TOO_LOW * case.scale:
            falling = "" if fall is None else f"J still fell by {fall:.3g} in the last quarter of the epochs; "
            yield Finding(
                "learning rate too low",
                None,
                case.rate,
                f"{falling}training on from here, from {case.loss:.3g}, takes the loss to {here:.3g} with the rate "
                f"{case.rate:.3g}, and to {there:.3g} with {times} times as much",
                f"a learning rate of {times * case.rate:.3g}, fastmlp.find_learning_rate, or more epochs",
            )
            return


def _one_class(case: _Case) -> Iterator[Finding]:
    T, h = case.targets, case.h
    classes = case.network.loss == "log_loss" or bool(np.isin(T, (0, 1)).all() and case.network.output == "logistic")
    single = T.shape[1] == 1
    if not (case.trained and classes and (single or bool((np.abs(T.sum(axis=1) - 1) < 1e-3).all()))):
        return
    found, there = (part[:, 0] > 0.5 if single else part.argmax(axis=1) for part in (h, T))
    if len(np.unique(found)) == 1 and len(np.unique(there)) > 1:
        share = float((there == found[0]).mean())
        yield Finding(
            "one class only",
            len(case.network.sizes),
            share,
            f"class {int(found[0])} is predicted for all {len(found)} examples; {share:.1%} of them are of it",
            "class_weight='balanced' (or sample_weight), log_loss, longer training",
        )


def _underfitting(case: _Case) -> Iterator[Finding]:
    if not case.trained:
        return
    fall = _fall_at_end(case)
    share = case.loss / case.baseline if case.baseline > 0 else 0.0
    if share > UNDERFIT:
        yield Finding(
            "underfitting",
            None,
            share,
            f"the loss on what it is trained on is {case.loss:.3g}, that of the best constant prediction "
            f"{case.baseline:.3g}",
            "the findings above, longer training, more units, less l2 and dropout; or X says little about T",
        )
    elif share > UNFINISHED and fall:
        yield Finding(
            "underfitting",
            None,
            fall,
            f"J still fell by {fall:.3g} in the last quarter of the epochs, to {case.curve[-1]:.3g}",
            "more epochs, or a higher learning rate",
        )


def _overfitting(case: _Case) -> Iterator[Finding]:
    curve, held_out = (np.asarray(c, float) for c in (case.curve, case.validation_curve))
    advice = "patience (early_stopping=True), more l2 or dropout, fewer units, more examples"
    if len(held_out) >= CURVE and len(curve) == len(held_out) and not case.best_stands:
        best = int(held_out.argmin())
        rise = float(np.mean(held_out[-3:]) - held_out[best])
        if rise > OVERFIT_RISE * max(held_out[0] - held_out[best], abs(held_out[best])) and curve[-1] < curve[best]:
            yield Finding(
                "overfitting",
                None,
                rise,
                f"since epoch {best + 1} the validation loss has risen by {rise:.3g}, from {held_out[best]:.3g}, while "
                f"J fell from {curve[best]:.3g} to {curve[-1]:.3g}",
                advice,
            )
            return
    if case.validation is not None:
        trained_on, other = case.loss, _loss(case.network, *case.validation)
        scale = case.scale
    elif len(held_out) > 0 and len(curve) == len(held_out):
        epoch = int(held_out.argmin()) if case.best_stands else -1
        trained_on, other = float(curve[epoch]), float(held_out[epoch])
        scale = case.scale / case.outputs_per_loss
    else:
        return
    gap = other - trained_on
    if gap > OVERFIT_GAP * scale:
        yield Finding(
            "overfitting",
            None,
            gap,
            f"the loss is {trained_on:.3g} on what it is trained on and {other:.3g} on what it is not, {gap:.3g} more",
            advice,
        )
