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

from fastmlp.backend import Passes, run
from fastmlp.mpi import ALONE
from fastmlp.optimizers import MOMENTS
from fastmlp.persistence import (
    Checkpoint,
    comparable,
    fitted_values,
    layer_arrays,
    layers_from,
    moment_arrays,
    moments_from,
    put_fitted,
    rng_from,
    rng_values,
    set_rng,
    wanting,
)
from fastmlp.training import FullBatch, check_rate, learning_rate_of

SMALLEST_RATE = 1e-6  # where learning_rate="adaptive" gives up
STOCHASTIC = ("sgd", "adam", "adamw")


@dataclass
class Examples:
    """What an estimator is fitted to, ready for the kernels; of several ranks each has its own."""

    X: Any
    T: np.ndarray
    weight: np.ndarray | None  # of each example, float64
    loss_offsets: np.ndarray | None  # what is added to the loss of each example, float64
    chosen: np.ndarray | None  # the examples to train on, counted over all ranks; all of them when None
    outputs_per_loss: int  # the loss that is reported is divided by this
    rows: int  # of all ranks
    ranks: Any

    @property
    def m(self) -> int:
        return self.rows if self.chosen is None else len(self.chosen)

    def epochs(self, trainer: Any, settings: dict[str, Any], batch_size: int, order: Any = None) -> Any:
        """Passes over them."""
        data = self.X, self.T, self.weight
        return self.ranks.epochs(trainer, *data, settings, batch_size, order, self.loss_offsets)


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

    def values(self) -> dict[str, Any]:
        """All but the moments, as numbers and text."""
        return {name: getattr(self, name) for name in ("settings", "learning_rate", "epochs", "updates")}

    @classmethod
    def of(cls, values: dict[str, Any], moments: list[Any]) -> "OptimizerState":
        """The state with these values and moments."""
        state = cls({}, 0.0)
        state.take(values)
        state._moments = moments
        return state

    def take(self, values: dict[str, Any]) -> None:
        """Take over what `values` has found."""
        for name, kind in (("settings", dict), ("learning_rate", float), ("epochs", int), ("updates", int)):
            if not isinstance(values[name], kind):
                raise ValueError(f"{name} is {values[name]!r}")
            setattr(self, name, values[name])

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


def scheduled_rate(estimator: Any, epoch: int, rate: float, ranks: Any) -> float:
    """The learning rate of an epoch: `rate`, unless a schedule of the epoch's number says otherwise."""
    if callable(estimator.learning_rate):
        found: float = ranks.first(lambda: learning_rate_of(estimator.learning_rate, epoch))
        return found
    if estimator.learning_rate == "cosine":
        return float(estimator.learning_rate_init) * 0.5 * (1.0 + math.cos(math.pi * epoch / estimator.max_iter))
    return rate


class Progress:
    """What a fit with a checkpoint writes after an epoch, and where it begins when there is something to resume.

    Parameters
    ----------
    checkpoint : Checkpoint
    """

    ranks: Any = ALONE  # the first of them writes

    def __init__(self, checkpoint: Checkpoint):
        self.checkpoint, self.found = checkpoint, checkpoint.read()
        self.start: Any = None
        self.finished = False

    @classmethod
    def of(cls, estimator: Any, path: Any, every: Any, data: dict[str, Any]) -> "Progress":
        """That of a fit to these data; a file of another fit is refused."""
        left_out = ["verbose", "n_threads", "device", "warm_start"]
        if not isinstance(estimator.learning_rate, str) or estimator.learning_rate != "cosine":
            left_out.append("max_iter")
        parameters = {n: comparable(v, n) for n, v in estimator.get_params(deep=False).items() if n not in left_out}
        progress = cls(Checkpoint(path, every, type(estimator).__name__, {**parameters, **data}))
        if progress.found is not None:
            with wanting(progress.checkpoint.path, "a fit"):
                progress._check(estimator, *progress.found, rows=data["X"][0])
        return progress

    def _check(self, estimator: Any, values: Any, arrays: Any, rows: int) -> None:
        """Refuse what a fit could not go on from."""
        path, done = self.checkpoint.path, values["fitted"]["n_iter_"]
        if done > estimator.max_iter:
            found = f"max_iter is {estimator.max_iter} and {path} has {done} already"
            raise ValueError(f"{found}; {done} or more is allowed")
        state = values["optimizer"]
        if state is not None:
            check_rate(estimator.learning_rate, state["epochs"], values["rate"], path)
        rng_from(values["rng"])
        rng_from(values["start"])
        order = arrays.get("order")
        if order is not None and not (order.dtype == np.int64 and order.ndim == 1 and len(order) <= rows):
            raise ValueError(f"{path} has an order of {order.dtype} {order.shape} for {rows} examples")
        if order is not None and not np.array_equal(np.sort(order), np.arange(len(order))):
            raise ValueError(f"{path} has an order in which not every example comes once")
        self.start, self.finished = values["start"], values["finished"]

    def begin(self, estimator: Any) -> None:
        """Set the estimator's generator to where the first fit began to train, or note where this one does."""
        rng = estimator._random_state
        if self.found is None:
            self.start = rng_values(rng)
        elif estimator.random_state is None:  # it is NumPy's own, which others draw from
            estimator._random_state = rng_from(self.start)
        else:
            estimator._random_state = set_rng(rng, self.start)

    def resume(self, estimator: Any, trainer: Any, state: Any = None, validation: Any = None) -> np.ndarray | None:
        """Go to the state of the last writing, if there is one; returns the order of the examples then."""
        if self.found is None:
            return None
        values, arrays = self.found
        with wanting(self.checkpoint.path, "a fit"):
            parameters = layers_from(arrays, trainer.sizes)
            best = layers_from(arrays, trainer.sizes, "best.") if values["has_best"] else None
            if state is not None:
                moments = moments_from(arrays, trainer.sizes, MOMENTS[state.settings["rule"]])
                state.take({**values["optimizer"], "settings": state.settings})
                trainer.set_moments(moments)
            put_fitted(estimator, values["fitted"])
        trainer.set_parameters(*parameters)
        if validation is not None and best is not None:
            validation.best = best
        estimator._random_state = set_rng(estimator._random_state, values["rng"])
        return arrays.get("order")

    def keep(
        self, estimator: Any, trainer: Any, state: Any = None, validation: Any = None, order: Any = None,
        rate: float | None = None, finished: bool = False, ends: bool = False,
    ) -> None:  # fmt: skip
        """Write the checkpoint, if it is time, or the fit ends."""
        if not (ends or finished or estimator.n_iter_ % self.checkpoint.every == 0):
            return
        best = None if validation is None else validation.best
        values: dict[str, Any] = {"fitted": fitted_values(estimator)}
        values |= {"rng": rng_values(estimator._random_state), "start": self.start}
        values |= {"finished": finished, "has_best": best is not None, "optimizer": None, "rate": rate}
        arrays = layer_arrays(trainer.parameters())
        if state is not None:
            values["optimizer"] = state.values()
            arrays |= moment_arrays(trainer.moments())
        if best is not None:
            arrays |= layer_arrays(best, "best.")
        if order is not None:
            arrays["order"] = order
        self.ranks.first(lambda: self.checkpoint.write(values, arrays))


def fit_minibatches(
    estimator: Any,
    trainer: Any,
    examples: Examples,
    incremental: bool,
    validation: "Validation | None",
    report: "Report",
    progress: Progress | None,
) -> Passes:
    """Epochs of minibatches until nothing improves, or max_iter of them; one when incremental.

    Writes the estimator's loss_, loss_curve_, best_loss_, n_iter_ and t_, and with a validation (which has a score)
    validation_scores_ and best_validation_score_.
    """
    m = examples.m
    state = getattr(estimator, "_optimizer", None)
    if not (incremental and state is not None and state.hand_over(trainer)):
        state = estimator._optimizer = OptimizerState(settings_of(estimator), float(estimator.learning_rate_init))
        trainer.start_moments(MOMENTS[state.settings["rule"]])
    shuffled = estimator.shuffle and estimator.solver != "gd"
    index = np.arange(m)
    estimator.n_iter_ = 0
    if progress is not None:
        found = progress.resume(estimator, trainer, state, validation)
        if found is not None and len(found) != m:
            raise ValueError(f"{progress.checkpoint.path} has an order of {len(found)} examples; {m} are needed")
        index = index if found is None else found
        report.skip(estimator.n_iter_)
    rng = estimator._random_state
    order: Any = None
    if shuffled or examples.chosen is not None:
        order = index.copy() if examples.chosen is None else examples.chosen.astype(np.int64)
    settings = {**state.settings, "remember": estimator.solver == "gd"}
    epochs = examples.epochs(trainer, settings, batch_size_of(estimator, m), order)
    try:
        while estimator.n_iter_ < estimator.max_iter and not (progress is not None and progress.finished):
            report.epoch_begins(trainer)
            if shuffled:
                permutation = np.arange(m)
                rng.shuffle(permutation)
                index = index[permutation]
                order[...] = index if examples.chosen is None else examples.chosen[index]
            rate = scheduled_rate(estimator, state.epochs, state.learning_rate, examples.ranks)
            epochs.begin(
                learning_rate=rate,
                updates=state.updates,
                # a generator that partial_fit starts anew each time draws the same numbers: the updates tell them apart
                dropout_seed=int(rng.randint(0, 2**61, dtype=np.int64)) + state.updates if trainer.dropout > 0 else 0,
            )
            diverged = False
            while epochs.done < epochs.chunks and not diverged:
                yield epochs
                diverged = not epochs.left_finite()
            state.updates += epochs.updates()
            state.epochs += 1
            estimator.n_iter_ += 1
            estimator.loss_ = np.float64(epochs.mean_loss() / examples.outputs_per_loss + epochs.mean_penalty())
            estimator.t_ += m
            estimator.loss_curve_.append(estimator.loss_)
            report.line(f"Iteration {estimator.n_iter_}, loss = {estimator.loss_:.8f}")
            if validation is not None:
                yield from validation.epoch_ends(trainer)
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
            if progress is not None and trainer.is_finite():
                kept = index if shuffled else None, rate if callable(estimator.learning_rate) else None
                ends = estimator.n_iter_ == estimator.max_iter
                progress.keep(estimator, trainer, state, validation, *kept, finished=bool(stop), ends=ends)
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
        if examples.ranks.size > 1:  # the others are somewhere else
            raise
        report.interrupted = True
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
        self.y = examples.ranks.joined(y.toarray() if scipy.sparse.issparse(y) else y)
        self.weight = examples.ranks.joined(examples.weight)
        # as in scikit-learn, a warm start that beats no earlier score ends with its last weights
        self.best: Any = None
        self.scorer = None if estimator.scoring is None else check_scoring(estimator, scoring=estimator.scoring)
        self.weighted = self.scorer is not None and _takes_weights(self.scorer)
        self.losses: Any = None  # passes over the examples that only look

    def epoch_ends(self, trainer: Any) -> Passes:
        """Append to the estimator's validation_scores_ and validation_curve_."""
        estimator, examples = self.estimator, self.examples
        if self.losses is None:
            self.losses = examples.epochs(trainer, {"rule": "evaluate"}, examples.m)
        self.losses.begin()
        yield from self.losses.to_the_end()
        estimator.validation_curve_.append(self.losses.mean_loss() / examples.outputs_per_loss)
        estimator.validation_scores_.append(self._score(trainer))

    def _score(self, trainer: Any) -> float:
        """The score of the weights that the trainer has; NaN when an output is not finite."""
        estimator, examples = self.estimator, self.examples
        if self.scorer is not None:
            estimator.coefs_, estimator.intercepts_ = trainer.parameters()
            weight = {} if self.weight is None or not self.weighted else {"sample_weight": self.weight}
            with warnings.catch_warnings():  # examples.X is a plain array, whatever X was
                warnings.filterwarnings("ignore", "X does not have valid feature names")
                return float(self.scorer(estimator, examples.X, self.y, **weight))
        outputs = trainer.forward(examples.X, check=False, largest=estimator.out_activation_ == "softmax")
        outputs = examples.ranks.joined(outputs)
        score: float = examples.ranks.first(lambda: self._score_of(outputs))  # so that all ranks stop alike
        return score

    def _score_of(self, outputs: np.ndarray) -> float:
        """The score of outputs."""
        predicted = self.estimator._from_outputs(outputs)
        if np.issubdtype(predicted.dtype, np.floating) and not np.isfinite(predicted).all():
            return np.nan
        score: float = self.estimator._score_function(self.y, predicted, sample_weight=self.weight)
        return score


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
    ranks : Ranks
        Of several, the first has the bar and the lines; each calls its callbacks.
    """

    def __init__(self, estimator: Any, X: Any, y: Any, sample_weight: Any, context: Any, ranks: Any):
        self.estimator, self.context, self.ranks = estimator, context, ranks
        self.data = {"X": X, "y": y, "metadata": None if sample_weight is None else {"sample_weight": sample_weight}}
        self.bar = None
        self.interrupted = False  # whether Ctrl-C has ended the training

    def __enter__(self) -> "Report":
        if self.estimator.verbose == 1 and self.ranks.rank == 0:
            from tqdm.auto import tqdm

            self.bar = tqdm(total=self.estimator.max_iter, unit="epoch")
        return self

    def __exit__(self, *error: Any) -> None:
        if self.bar is not None:
            self.bar.close()

    def skip(self, epochs: int) -> None:
        """Tell the bar of epochs of an earlier call."""
        if self.bar is not None:
            self.bar.update(epochs)

    def line(self, text: str) -> None:
        """Print a line about an epoch, for verbose=2 and more."""
        if self.estimator.verbose >= 2 and self.ranks.rank == 0:
            print(text)

    def _state(self, trainer: Any) -> Any:
        def attributes() -> dict[str, Any]:
            weights, biases = trainer.parameters()
            return {"coefs_": weights, "intercepts_": biases}

        return attributes

    def epoch_begins(self, trainer: Any) -> None:
        """Tell the callbacks."""
        self.ranks.each(lambda: self._begin_task(trainer))

    def _begin_task(self, trainer: Any) -> None:
        if self.context is not None:
            self.epoch = self.context.subcontext(task_name="epoch")
            state = self._state(trainer)
            self.epoch.call_on_fit_task_begin(estimator=self.estimator, reconstruction_attributes=state, **self.data)

    def epoch_ends(self, trainer: Any) -> bool:
        """Tell the bar and the callbacks; returns whether one of these, on any rank, wants to stop."""
        if self.bar is not None:
            self.bar.update()
            self.bar.set_postfix(loss=f"{self.estimator.loss_:.4g}", refresh=False)
        return any(self.ranks.gather(lambda: self._end_task(trainer)))

    def _end_task(self, trainer: Any) -> bool:
        if self.context is None:
            return False
        state = self._state(trainer)
        end = self.epoch.call_on_fit_task_end
        return bool(end(estimator=self.estimator, reconstruction_attributes=state, **self.data))


def fit_lbfgs(
    estimator: Any, trainer: Any, examples: Examples, validation: Any, report: Report, progress: Progress | None
) -> None:
    """SciPy's L-BFGS-B over all examples; weights then biases, one after another, are its variables."""
    estimator.n_iter_ = 0
    if progress is not None:
        progress.resume(estimator, trainer)
        report.skip(estimator.n_iter_)
        if progress.finished or estimator.n_iter_ == estimator.max_iter:
            return
    done = estimator.n_iter_
    data, ranks = (examples.X, examples.T, examples.weight), examples.ranks
    evaluation = FullBatch(trainer, *data, examples.loss_offsets, ranks=ranks)

    def evaluate(x: np.ndarray) -> tuple[float, np.ndarray]:
        loss, penalty, gradient = evaluation(x)
        return loss / examples.outputs_per_loss + penalty, gradient

    iterate = evaluation.start

    def iteration_ends(intermediate_result: Any) -> None:
        nonlocal iterate
        iterate = intermediate_result.x.copy()
        estimator.n_iter_ += 1
        estimator.loss_ = intermediate_result.fun
        report.line(f"Iteration {estimator.n_iter_}, loss = {estimator.loss_:.8f}")
        if validation is not None or report.context is not None or progress is not None:
            evaluation.put(iterate)
        if validation is not None:
            run(validation.epoch_ends(trainer))
        stop = report.epoch_ends(trainer)
        if progress is not None:
            progress.keep(estimator, trainer, finished=bool(stop))
        if stop:
            raise StopIteration
        report.epoch_begins(trainer)

    report.epoch_begins(trainer)
    try:
        result = scipy.optimize.minimize(
            evaluate,
            iterate,
            method="L-BFGS-B",
            jac=True,
            callback=iteration_ends,
            options={"maxfun": estimator.max_fun, "maxiter": estimator.max_iter - done, "gtol": estimator.tol},
        )
    except KeyboardInterrupt:
        if ranks.size > 1:
            raise
        report.interrupted = True
        warnings.warn("Training interrupted by user.", stacklevel=2)
        if not hasattr(estimator, "loss_"):
            estimator.loss_ = np.nan
        evaluation.put(iterate)
        return
    estimator.n_iter_ = done + _check_optimize_result("lbfgs", result, estimator.max_iter - done)
    estimator.loss_ = result.fun
    evaluation.put(result.x)
    if progress is not None:
        finished = result.status == 0 or estimator.n_iter_ < estimator.max_iter  # max_fun may have ended it
        progress.keep(estimator, trainer, finished=finished, ends=True)
