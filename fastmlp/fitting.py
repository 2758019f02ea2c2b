"""How an estimator's weights are found: scikit-learn's rules for minibatches, schedules and stopping.

scikit-learn's numbers are kept: the same random numbers are drawn in the same order, and the loss of an epoch, its
comparison with earlier ones and the next learning rate follow sklearn.neural_network term for term.
"""

import inspect
import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.optimize
import scipy.sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import check_scoring, r2_score
from sklearn.utils.optimize import _check_optimize_result

from fastmlp.optimizers import MOMENTS
from fastmlp.training import FullBatch, learning_rate_of

SMALLEST_RATE = 1e-6  # where learning_rate="adaptive" gives up
STOCHASTIC = ("sgd", "adam", "adamw")


@dataclass
class Examples:
    """What an estimator is fitted to, ready for the kernels."""

    X: Any
    T: np.ndarray
    weight: np.ndarray | None  # of each example, float64
    loss_offsets: np.ndarray | None  # what is added to the loss of each example, float64
    chosen: np.ndarray | None  # the examples to train on; all of them when None
    outputs_per_loss: int  # the loss that is reported is divided by this

    @property
    def m(self) -> int:
        return self.X.shape[0] if self.chosen is None else len(self.chosen)


class OptimizerState:
    """What goes on from one partial_fit to the next: as in scikit-learn, the settings of the first one, too.

    After a partial_fit the trainer is kept, and the moments of the weights stay with it; a copy, pickled or not, has
    them as arrays.
    """

    def __init__(self, settings: dict[str, Any], learning_rate: float):
        self.settings, self.learning_rate = settings, learning_rate
        self.epochs = self.updates = 0
        self.trainer: Any = None
        self._moments: list[Any] = []

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "trainer": None, "_moments": self.moments()}

    def moments(self) -> list[Any]:
        """The rule's moments of the weights and biases."""
        return self._moments if self.trainer is None else self.trainer.moments()

    def keep(self, trainer: Any, for_more: bool) -> None:
        """Take over the trainer's moments, or the trainer with them when more calls are to be expected."""
        self.trainer, self._moments = (trainer, []) if for_more else (None, trainer.moments())

    def hand_over(self, trainer: Any) -> bool:
        """Give the moments to a trainer; returns whether they belong to weights of its shapes."""
        if self.trainer is not trainer:
            weights, _ = trainer.parameters()
            moments = self.moments()
            if not all([a.shape for a in moment[0]] == [W.shape for W in weights] for moment in moments):
                return False
            trainer.set_moments(moments)
        return True


def settings_of(estimator: Any) -> dict[str, Any]:
    """The kernels' settings for an estimator's solver."""
    if estimator.solver in ("adam", "adamw"):
        names = ("beta_1", "beta_2", "epsilon")
        settings = {"rule": "adam", **{name: float(getattr(estimator, name)) for name in names}}
    elif estimator.solver == "gd" or estimator.momentum == 0:
        settings = {"rule": "descent"}
    else:
        rule = "nesterov" if estimator.nesterovs_momentum else "momentum"
        settings = {"rule": rule, "momentum": float(estimator.momentum)}
    if estimator.solver == "adamw":
        settings["weight_decay"] = float(estimator.weight_decay)
    return {**settings, "max_norm": estimator.max_gradient_norm}


def batch_size_of(estimator: Any, m: int) -> int:
    """The examples of a minibatch, no more than there are."""
    if estimator.solver == "gd":
        return m
    if estimator.batch_size == "auto":
        return min(200, m)
    if estimator.batch_size > m:
        warnings.warn(
            "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped", stacklevel=2
        )
    return int(np.clip(estimator.batch_size, 1, m))


def scheduled_rate(estimator: Any, epoch: int, rate: float) -> float:
    """The learning rate of an epoch: `rate`, unless a schedule of the epoch's number says otherwise."""
    if callable(estimator.learning_rate):
        return learning_rate_of(estimator.learning_rate, epoch)
    if estimator.learning_rate == "cosine":
        return float(estimator.learning_rate_init) * 0.5 * (1.0 + math.cos(math.pi * epoch / estimator.max_iter))
    return rate


def fit_minibatches(
    estimator: Any,
    trainer: Any,
    examples: Examples,
    incremental: bool,
    validation: "Validation | None",
    report: "Report",
) -> None:
    """Epochs of minibatches until nothing improves, or max_iter of them; one when incremental.

    Writes the estimator's loss_, loss_curve_, best_loss_, n_iter_ and t_, and with a validation (which has a score)
    validation_scores_ and best_validation_score_.
    """
    rng, m = estimator._random_state, examples.m
    state = getattr(estimator, "_optimizer", None)
    if not (incremental and state is not None and state.hand_over(trainer)):
        state = estimator._optimizer = OptimizerState(settings_of(estimator), float(estimator.learning_rate_init))
        trainer.start_moments(MOMENTS[state.settings["rule"]])
    shuffled = estimator.shuffle and estimator.solver != "gd"
    index = np.arange(m)
    order: Any = None
    if shuffled or examples.chosen is not None:
        order = index.copy() if examples.chosen is None else examples.chosen.astype(np.int64)
    batch_size = batch_size_of(estimator, m)
    epochs = trainer.epochs(
        examples.X, examples.T, examples.weight, state.settings, batch_size, order, examples.loss_offsets
    )
    estimator.n_iter_ = 0
    try:
        for _ in range(estimator.max_iter):
            report.epoch_begins(trainer)
            if shuffled:
                permutation = np.arange(m)
                rng.shuffle(permutation)
                index = index[permutation]
                order[...] = index if examples.chosen is None else examples.chosen[index]
            if estimator.solver == "gd":
                trainer.remember()
            epochs.begin(
                learning_rate=scheduled_rate(estimator, state.epochs, state.learning_rate),
                updates=state.updates,
                # a generator that partial_fit starts anew each time draws the same numbers: the updates tell them apart
                dropout_seed=int(rng.randint(0, 2**61, dtype=np.int64)) + state.updates if trainer.dropout > 0 else 0,
            )
            diverged = False
            while epochs.done < epochs.chunks and not diverged:
                epochs.run_slice()
                diverged = not trainer.is_finite()
            state.updates += epochs.updates()
            state.epochs += 1
            estimator.n_iter_ += 1
            estimator.loss_ = np.float64(epochs.mean_loss() / examples.outputs_per_loss + epochs.mean_penalty())
            estimator.t_ += m
            estimator.loss_curve_.append(estimator.loss_)
            report.line(f"Iteration {estimator.n_iter_}, loss = {estimator.loss_:.8f}")
            if validation is not None:
                validation.epoch_ends(trainer)
                report.line(f"Validation score: {estimator.validation_scores_[-1]:f}")
            stop = diverged
            if estimator.solver == "gd":
                stop = stop or trainer.largest_change() <= estimator.tol
            if estimator.solver != "gd" or estimator.early_stopping:
                count_without_improvement(estimator, trainer, validation)
            if estimator.learning_rate == "invscaling" and estimator.solver == "sgd":
                state.learning_rate = float(estimator.learning_rate_init) / (estimator.t_ + 1) ** estimator.power_t
            if estimator._no_improvement_count > estimator.n_iter_no_change:
                given_up = gives_up(estimator, state, report)
                estimator._no_improvement_count = estimator._no_improvement_count if given_up else 0
                stop = stop or given_up
            stop = report.epoch_ends(trainer) or stop
            if stop or incremental:
                break
            if estimator.n_iter_ == estimator.max_iter:
                warnings.warn(
                    f"Stochastic Optimizer: Maximum iterations ({estimator.max_iter}) reached and the optimization "
                    "hasn't converged yet.",
                    ConvergenceWarning,
                    stacklevel=2,
                )
    except KeyboardInterrupt:
        warnings.warn("Training interrupted by user.", stacklevel=2)
    state.keep(trainer, for_more=incremental)


def count_without_improvement(estimator: Any, trainer: Any, validation: Any) -> None:
    """Keep the best loss, or the best validation score, and count the epochs that were not better by tol."""
    if estimator.early_stopping:
        score = estimator.validation_scores_[-1]
        worse = score < estimator.best_validation_score_ + estimator.tol
        if score > estimator.best_validation_score_:
            estimator.best_validation_score_ = score
            validation.best = trainer.parameters()
    else:
        worse = estimator.loss_ > estimator.best_loss_ - estimator.tol
        if estimator.loss_ < estimator.best_loss_:
            estimator.best_loss_ = estimator.loss_
    estimator._no_improvement_count = estimator._no_improvement_count + 1 if worse else 0


def gives_up(estimator: Any, state: OptimizerState, report: "Report") -> bool:
    """What n_iter_no_change epochs without an improvement lead to: the end, or a smaller learning rate."""
    what = "Validation score did not improve" if estimator.early_stopping else "Training loss did not improve"
    message = f"{what} more than tol={estimator.tol:f} for {estimator.n_iter_no_change:d} consecutive epochs."
    if estimator.learning_rate != "adaptive" or estimator.solver != "sgd":
        outcome = " Stopping."
    elif state.learning_rate <= SMALLEST_RATE:
        outcome = " Learning rate too small. Stopping."
    else:
        state.learning_rate /= 5.0
        outcome = f" Setting learning rate to {state.learning_rate:f}"
    report.line(message + outcome)
    return outcome.endswith("Stopping.")


def accuracy(y: Any, predicted: Any, sample_weight: np.ndarray | None) -> float:
    """The share of examples whose labels are all right: accuracy_score's number, without its checks of y."""
    right = y == (predicted.toarray() if scipy.sparse.issparse(predicted) else predicted)
    return float(np.average(right if right.ndim == 1 else right.all(axis=1), weights=sample_weight))


def r_squared(y: np.ndarray, predicted: np.ndarray, sample_weight: np.ndarray | None) -> float:
    """1 - residual / total sum of squares, averaged over outputs: r2_score's number, without its checks of y."""
    if len(y) < 2:
        return r2_score(y, predicted)  # NaN, and a warning
    y, predicted = y.reshape(len(y), -1), predicted.reshape(len(y), -1)
    weight = np.ones((len(y), 1)) if sample_weight is None else sample_weight[:, np.newaxis]
    residual = (weight * (y - predicted) ** 2).sum(axis=0)
    total = (weight * (y - np.average(y, axis=0, weights=sample_weight)) ** 2).sum(axis=0)
    constant = total == 0
    scores = np.where(constant, residual == 0, 1 - residual / np.where(constant, 1, total))
    return float(scores.mean())


class Validation:
    """Examples that are not trained on: their scores and losses after each epoch, and the best score's weights."""

    def __init__(self, estimator: Any, examples: Examples, y: Any):
        self.estimator, self.examples = estimator, examples
        self.y = y.toarray() if scipy.sparse.issparse(y) else y
        # as in scikit-learn, a warm start that beats no earlier score ends with its last weights
        self.best: Any = None
        self.scorer = None if estimator.scoring is None else check_scoring(estimator, scoring=estimator.scoring)
        self.weighted = self.scorer is not None and _takes_weights(self.scorer)
        self.losses: Any = None  # passes over the examples that only look

    def epoch_ends(self, trainer: Any) -> None:
        """Append to the estimator's validation_scores_ and validation_curve_."""
        estimator, examples = self.estimator, self.examples
        if self.losses is None:
            rule, weight = {"rule": "evaluate"}, examples.weight
            self.losses = trainer.epochs(examples.X, examples.T, weight, rule, examples.m, None, examples.loss_offsets)
        self.losses.begin()
        self.losses.run(self.losses.chunks)
        estimator.validation_curve_.append(self.losses.mean_loss() / examples.outputs_per_loss)
        estimator.validation_scores_.append(self._score(trainer))

    def _score(self, trainer: Any) -> float:
        """The score of the weights that the trainer has; NaN when an output is not finite."""
        estimator, examples = self.estimator, self.examples
        if self.scorer is not None:
            estimator.coefs_, estimator.intercepts_ = trainer.parameters()
            weight = {} if examples.weight is None or not self.weighted else {"sample_weight": examples.weight}
            with warnings.catch_warnings():  # examples.X is a plain array, whatever X was
                warnings.filterwarnings("ignore", "X does not have valid feature names")
                return float(self.scorer(estimator, examples.X, self.y, **weight))
        outputs = trainer.forward(examples.X, check=False, largest=estimator.out_activation_ == "softmax")
        predicted = estimator._from_outputs(outputs)
        if np.issubdtype(predicted.dtype, np.floating) and not np.isfinite(predicted).all():
            return np.nan
        return estimator._score_function(self.y, predicted, sample_weight=examples.weight)


def _takes_weights(scorer: Any) -> bool:
    parameters = inspect.signature(scorer).parameters.values()
    return any(p.name == "sample_weight" or p.kind is p.VAR_KEYWORD for p in parameters)


class Report:
    """What is told while an estimator is fitted: a bar (verbose=1), lines (verbose=2), and scikit-learn's callbacks.

    Parameters
    ----------
    estimator : estimator
    X, y, sample_weight : array-like
        What it is fitted to, for the callbacks.
    context : sklearn.callback.CallbackContext, optional
        Of the fit; None when there are no callbacks.
    """

    def __init__(self, estimator: Any, X: Any, y: Any, sample_weight: Any, context: Any):
        self.estimator, self.context = estimator, context
        self.data = {"X": X, "y": y, "metadata": None if sample_weight is None else {"sample_weight": sample_weight}}
        self.bar = None

    def __enter__(self) -> "Report":
        if self.estimator.verbose == 1:
            from tqdm.auto import tqdm

            self.bar = tqdm(total=self.estimator.max_iter, unit="epoch")
        return self

    def __exit__(self, *error: Any) -> None:
        if self.bar is not None:
            self.bar.close()

    def line(self, text: str) -> None:
        """Print a line about an epoch, for verbose=2 and more."""
        if self.estimator.verbose >= 2:
            print(text)

    def _state(self, trainer: Any) -> Any:
        def attributes() -> dict[str, Any]:
            weights, biases = trainer.parameters()
            return {"coefs_": weights, "intercepts_": biases}

        return attributes

    def epoch_begins(self, trainer: Any) -> None:
        """Tell the callbacks."""
        if self.context is not None:
            self.epoch = self.context.subcontext(task_name="epoch")
            state = self._state(trainer)
            self.epoch.call_on_fit_task_begin(estimator=self.estimator, reconstruction_attributes=state, **self.data)

    def epoch_ends(self, trainer: Any) -> bool:
        """Tell the bar and the callbacks; returns whether one of these wants to stop."""
        if self.bar is not None:
            self.bar.update()
            self.bar.set_postfix(loss=f"{self.estimator.loss_:.4g}", refresh=False)
        if self.context is None:
            return False
        state = self._state(trainer)
        return self.epoch.call_on_fit_task_end(estimator=self.estimator, reconstruction_attributes=state, **self.data)


def fit_lbfgs(estimator: Any, trainer: Any, examples: Examples, validation: Any, report: Report) -> None:
    """SciPy's L-BFGS-B over all examples; weights then biases, one after another, are its variables."""
    evaluation = FullBatch(trainer, examples.X, examples.T, examples.weight, examples.loss_offsets)

    def evaluate(x: np.ndarray) -> tuple[float, np.ndarray]:
        loss, penalty, gradient = evaluation(x)
        return loss / examples.outputs_per_loss + penalty, gradient

    def iteration_ends(intermediate_result: Any) -> None:
        estimator.n_iter_ += 1
        estimator.loss_ = intermediate_result.fun
        report.line(f"Iteration {estimator.n_iter_}, loss = {estimator.loss_:.8f}")
        if validation is not None or report.context is not None:
            evaluation.put(intermediate_result.x)
        if validation is not None:
            validation.epoch_ends(trainer)
        if report.epoch_ends(trainer):
            raise StopIteration
        report.epoch_begins(trainer)

    estimator.n_iter_ = 0
    report.epoch_begins(trainer)
    result = scipy.optimize.minimize(
        evaluate,
        evaluation.start,
        method="L-BFGS-B",
        jac=True,
        callback=iteration_ends,
        options={"maxfun": estimator.max_fun, "maxiter": estimator.max_iter, "gtol": estimator.tol},
    )
    estimator.n_iter_ = _check_optimize_result("lbfgs", result, estimator.max_iter)
    estimator.loss_ = result.fun
    evaluation.put(result.x)
