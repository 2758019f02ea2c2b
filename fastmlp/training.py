"""Epochs, stopping, schedules and callbacks; touches no weight arithmetic."""

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastmlp.backend import Passes, run
from fastmlp.inputs import as_array, as_sample_weight, as_weights, fingerprint, is_whole, not_finite_error
from fastmlp.mpi import ALONE, lbfgs_settings, together
from fastmlp.optimizers import LBFGS, SGD, Adam, GradientDescent, Optimizer, moments, rule

if TYPE_CHECKING:
    from fastmlp.network import Network


class DivergenceError(ArithmeticError):
    """Training left the finite numbers; the network keeps its last finite weights."""


@dataclass
class History:
    """What a call of `train` did.

    Attributes
    ----------
    objective : list of float
        J of each epoch, averaged over its minibatches as they were seen (L-BFGS: after each iteration).
    validation : list of float or None
        The objective on the validation data after each epoch, where there are such data.
    n_epochs : int
        Epochs completed.
    seconds : float
        Time taken.
    stopped : {"epochs", "tol", "patience", "callback", "interrupted", "diverged"}
        Why training ended. L-BFGS says "tol" when it ends by itself, at a minimum or where its line search finds no
        better point at this precision, and "epochs" also when its max_evaluations are used up. "diverged" comes from
        `train_many` only: `train` raises DivergenceError.
    """

    objective: list[float] = field(default_factory=list)
    validation: list[float] | None = None
    n_epochs: int = 0
    seconds: float = 0.0
    stopped: str = "epochs"


@dataclass(frozen=True)
class Settings:
    """The arguments of `train` that do not depend on the optimizer."""

    shuffle: bool
    tol: float | None
    validation: Any
    patience: int | None
    callbacks: Sequence[Callable[[Any, History], Any]]
    progress: Any
    checkpoint: Any = None
    checkpoint_every: Any = 1
    window: Any = None


class Held(NamedTuple):
    """Validation data that are known to be right."""

    X: Any
    T: Any
    rows: np.ndarray | None  # which of them; all when None


class Watch:
    """What happens between epochs: history, validation, patience, callbacks, checkpoints."""

    def __init__(self, network: "Network", settings: Settings, ranks: Any):
        self.network, self.settings, self.ranks = network, settings, ranks
        self.history = History(validation=None if settings.validation is None else [])
        self.validation: Held | None = None
        self.losses: Any = None  # passes over the validation data
        if settings.validation is not None:
            given = settings.validation
            self.validation = given if isinstance(given, Held) else validation_data(network, given)
        self.best = math.inf
        self.best_epoch = 0
        self.best_state: Any = None
        self.checkpoint: Any = None
        self.kept: Any = None  # epochs and reason of stopping that the checkpoint has
        self.best_packed: Any = None  # the best state as the checkpoint has it
        self.ended = False  # whether the optimizer has ended by itself
        self.rate: float | None = None  # of the last epoch, where it is a function's
        self.calls_back = False  # whether there are callbacks, on any rank
        self.started = time.perf_counter()

    def epoch_ends(self, objective: float) -> Passes:
        """Note a completed epoch; returns whether to stop."""
        network, history, settings = self.network, self.history, self.settings
        validation = None if self.validation is None else (yield from self._objective())  # Ctrl-C may come here
        history.objective.append(objective)
        history.n_epochs += 1
        history.seconds = time.perf_counter() - self.started
        stopped = None
        if settings.tol is not None and network._trainer.largest_change() <= settings.tol:
            stopped = "tol"
        if validation is not None and history.validation is not None:
            history.validation.append(validation)
            if settings.patience is not None:
                if history.validation[-1] < self.best:
                    self.best, self.best_epoch = history.validation[-1], history.n_epochs
                    self.best_state = _snapshot(network)
                    if self.checkpoint is not None:
                        from fastmlp import persistence

                        self.best_packed = persistence.training_state(network, "best.")
                elif history.n_epochs - self.best_epoch >= settings.patience:
                    stopped = stopped or "patience"
        if self.calls_back:
            answers = self.ranks.gather(self._call_back)
            if any(stops for stops, _ in answers):
                stopped = "callback"
            assigned = [changed for _, changed in answers]
            if any(assigned):
                self._take_over_assigned(assigned)
        if stopped is not None:
            history.stopped = stopped
        return stopped is not None

    def _call_back(self) -> tuple[bool, bool]:
        """Call the callbacks: whether one wants to stop, and whether one has assigned weights or biases."""
        stops, had_optimizer = False, self.network._optimizer is not None
        for callback in self.settings.callbacks:
            answer = callback(self.network, self.history)
            stops = stops or (isinstance(answer, (bool, np.bool_)) and bool(answer))
        return stops, had_optimizer and self.network._optimizer is None

    def _take_over_assigned(self, assigned: list[bool]) -> None:
        """Let all ranks have the weights that callbacks have assigned on rank 0."""
        if not all(assigned):
            there, not_there = assigned.index(True), assigned.index(False)
            raise RuntimeError(
                f"a callback has assigned weights or biases on rank {there} and none on rank {not_there}; on all "
                "ranks, which then take rank 0's, or on none is allowed"
            )
        if self.ranks.shared:
            _share_state(self.network, None, self.ranks)

    def _objective(self) -> Passes:
        """J of the validation data."""
        trainer = self.network._trainer
        if self.losses is None:
            assert self.validation is not None
            X, T, rows = self.validation
            m = X.shape[0] if rows is None else len(rows)
            self.losses = self.ranks.epochs(trainer, X, T, None, {"rule": "evaluate"}, m, rows)
        self.losses.begin()
        yield from self.losses.to_the_end()
        # rank 0's, for all must stop alike: another processor's NumPy may add squares in another order
        objective: float = self.ranks.first(lambda: self.losses.mean_loss() + trainer.penalty())
        return objective

    def resume(self, identity: dict[str, Any], optimizer: Optimizer, epochs: int) -> None:
        """Open the checkpoint, and go to where the training that wrote it was."""
        if self.settings.checkpoint is None:
            return
        from fastmlp import persistence

        network, settings = self.network, self.settings
        identity = {**persistence.network_settings(network), **identity}
        identity["optimizer"] = persistence.optimizer_values(optimizer)

        def opened() -> tuple[Any, Any]:
            checkpoint = persistence.Checkpoint(settings.checkpoint, settings.checkpoint_every, "Network", identity)
            persistence.rng_values(network._rng)  # refuses a generator that a file cannot hold
            return checkpoint, checkpoint.read()

        def read() -> None:
            with persistence.wanting(checkpoint.path, "a training"):
                self._read(found[0], found[1], optimizer, epochs, checkpoint)

        checkpoint, found = self.ranks.first(opened)
        if found is not None:
            self.ranks.each(read)
        self.checkpoint = checkpoint

    def _read(self, values: Any, arrays: Any, optimizer: Optimizer, epochs: int, checkpoint: Any) -> None:
        """Go to what a checkpoint holds, once all of it is known to be right."""
        from fastmlp import persistence

        network, own, best = self.network, values["network"], values["best"]
        history = History(**values["history"])
        if history.n_epochs > epochs:
            message = f"epochs is {epochs} and {checkpoint.path} has {history.n_epochs} already"
            raise ValueError(f"{message}; {history.n_epochs} or more is allowed")
        schedule = getattr(optimizer, "learning_rate", None)
        check_rate(schedule, own["state"]["epochs"], values["rate"], checkpoint.path)
        state = persistence.read_training_state(network, own["state"], arrays, optimizer)
        persistence.rng_from(own["rng"])
        if best is not None:
            best_state = persistence.read_training_state(network, best["state"], arrays, optimizer, "best.")
            persistence.put_training_state(network, best_state)
            self.best, self.best_epoch, self.best_state = best["objective"], best["epoch"], _snapshot(network)
            self.best_packed = best["state"], {name: a for name, a in arrays.items() if name.startswith("best.")}
        persistence.put_training_state(network, state)
        network._rng = persistence.set_rng(network._rng, own["rng"])
        self.history, self.ended, self.rate = history, values["ended"], values["rate"]
        self.started -= history.seconds
        self.kept = self._reason()

    def _reason(self) -> tuple[int, str, bool]:
        return self.history.n_epochs, self.history.stopped, self.ended

    @property
    def finished(self) -> bool:
        """Whether more epochs would change nothing: a reason other than their number has ended the training."""
        return self.ended or self.history.stopped != "epochs"

    def keep(self, ends: bool = False) -> None:
        """Write the checkpoint, if it is time or the training ends."""
        history, checkpoint = self.history, self.checkpoint
        if checkpoint is None or self.kept == self._reason():
            return
        if not (ends or self.finished or history.n_epochs % checkpoint.every == 0):
            return
        self.ranks.first(self._write)
        self.kept = self._reason()

    def _write(self) -> None:
        """Write the checkpoint."""
        from fastmlp import persistence

        history = self.history
        values, arrays = persistence.network_values(self.network)
        best = None
        if self.best_state is not None:
            state, packed = self.best_packed
            best = {"objective": self.best, "epoch": self.best_epoch, "state": state}
            arrays |= packed
        # callbacks may have given it more
        noted = {entry.name: getattr(history, entry.name) for entry in fields(History)}
        values = {"network": values, "history": noted, "best": best, "rate": self.rate, "ended": self.ended}
        self.checkpoint.write(values, arrays)

    def training_ends(self) -> History:
        """With patience the best weights stand."""
        if self.best_state is not None and self.best_epoch != self.history.n_epochs:
            _restore(self.network, self.best_state)
        self.history.seconds = self.ranks.first(lambda: time.perf_counter() - self.started)
        return self.history

    def learning_rate(self, schedule: Any) -> float:
        """The learning rate of the epoch that begins; that of rank 0's function where it is one."""
        if not callable(schedule):
            return learning_rate_of(schedule, self.network._epochs)
        self.rate = rate = self.ranks.first(lambda: learning_rate_of(schedule, self.network._epochs))
        return rate


def validation_data(network: "Network", given: Any) -> Held:
    """The validation data that are given, (X, T), checked."""
    try:
        X, T = given
    except (TypeError, ValueError):
        raise ValueError("validation is not a pair; (X, T) is allowed") from None
    X, T, _ = network._data(X, T, None, "validation ")
    for data, name in ((X, "validation X"), (T, "validation T")):
        error = not_finite_error(data, np.dtype(network.dtype), name)
        if error is not None:
            raise error
    return Held(X, T, None)


class Training:
    """A training whose arguments are right: `passes` trains, by passes that `run` runs, or others.

    Parameters
    ----------
    network, X, T, optimizer, batch_size, epochs, settings, sample_weight
        See `Network.train`.
    subset : ndarray of int64, optional
        Which examples to train on, as if there were no others.
    held : ndarray of int64, optional
        Which examples are for validation.
    ranks : Ranks, optional
        Those that train together, each with its own X, T and sample_weight.
    """

    X: Any
    T: Any
    weight: Any
    watch: Watch

    def __init__(
        self,
        network: "Network",
        X: Any,
        T: Any,
        optimizer: Optimizer,
        batch_size: int | None,
        epochs: int,
        settings: Settings,
        sample_weight: Any,
        subset: np.ndarray | None = None,
        held: np.ndarray | None = None,
        *,
        ranks: Any = ALONE,
    ):
        self.network, self.epochs, self.subset, self.ranks = network, epochs, subset, ranks
        self.optimizer: Any = optimizer
        self.shuffles = bool(settings.shuffle) and isinstance(optimizer, (SGD, Adam))
        ranks.each(lambda: self._check(X, T, settings, sample_weight, held))
        self.watch.calls_back = any(ranks.gather(lambda: len(settings.callbacks) > 0))
        self.m = ranks.shard(self.X.shape[0]).m if subset is None else len(subset)
        self.batch_size = ranks.each(lambda: check_batch_size(batch_size, optimizer, self.m))
        if ranks.shared:
            ranks.same(**self._shared())
            self.weight = ranks.scaled(self.weight)
        else:
            network._settle(self.m, self.batch_size, epochs)
        identity = _identity(self.X, self.T, self.weight, self.batch_size, self.watch)
        self.watch.resume(identity, optimizer, epochs)
        if ranks.shared:
            _share_state(network, optimizer, ranks)

    def _check(self, X: Any, T: Any, settings: Settings, sample_weight: Any, held: np.ndarray | None) -> None:
        """Refuse wrong arguments, as far as one rank knows them."""
        network, optimizer, subset = self.network, self.optimizer, self.subset
        if not isinstance(optimizer, (GradientDescent, SGD, Adam, LBFGS)):
            raise ValueError(f"optimizer is {optimizer!r}; a GradientDescent, SGD, Adam or LBFGS object is allowed")
        if self.ranks.shared:
            self.X, self.T, self.weight = _shard(network, X, T, sample_weight, settings)
        else:
            self.X, self.T, self.weight = network._training_data(X, T, sample_weight, self.shuffles, settings.window)
        if subset is not None and self.weight is not None:
            # as if there were no others: weights are divided by their largest
            self.weight[subset] = as_sample_weight(as_array(sample_weight, "sample_weight")[subset], len(subset))
        if held is not None:
            settings = replace(settings, validation=Held(self.X, self.T, held))
        _check_counts(self.epochs, settings)
        if isinstance(optimizer, LBFGS) and network.dropout > 0:
            raise ValueError(f"dropout is {network.dropout}; LBFGS allows 0.0 only, for its objective must not change")
        if network._training:
            message = "train was called by a callback of a training of the same network, which goes on after it"
            raise RuntimeError(message)
        self.watch = Watch(network, settings, self.ranks)

    def _shared(self) -> dict[str, Any]:
        """What must be the same on all ranks."""
        from fastmlp import persistence

        settings, optimizer = self.watch.settings, self.optimizer
        shared = {**persistence.network_settings(self.network), "optimizer": persistence.optimizer_values(optimizer)}
        shared |= {"batch_size": self.batch_size, "epochs": self.epochs, "number of dimensions of T": self.T.ndim}
        shared |= {name: getattr(settings, name) for name in ("shuffle", "tol", "patience", "checkpoint_every")}
        given = {"validation": settings.validation, "checkpoint": settings.checkpoint, "sample_weight": self.weight}
        shared |= {f"whether {name} is given": value is not None for name, value in given.items()}
        if isinstance(optimizer, LBFGS):
            shared |= lbfgs_settings()
        return shared

    def passes(self, bar: Callable[[int], None]) -> Passes:
        """Train; returns the History. `bar` is told of examples that are done."""
        watch, descend = self.watch, _lbfgs if isinstance(self.optimizer, LBFGS) else _descend
        try:
            self.network._training = True
            if not watch.finished:
                yield from descend(self, bar)
            watch.keep(ends=True)
        except KeyboardInterrupt:
            if self.ranks.size > 1:  # the others are somewhere else
                raise
            watch.history.stopped = "interrupted"
        finally:
            self.network._training = False
        return watch.training_ends()


def train(comm: Any, *arguments: Any) -> History:
    """See `Network.train`; the arguments but the first are Training's."""
    with together(comm) as ranks:
        training = Training(*arguments, ranks=ranks)
        done, progress = training.watch.history.n_epochs, training.watch.settings.progress and ranks.rank == 0
        with progress_bar(progress, training.epochs * training.m, done * training.m) as bar:
            return run(training.passes(bar))


def _shard(network: "Network", X: Any, T: Any, sample_weight: Any, settings: Settings) -> tuple[Any, Any, Any]:
    """`Network._training_data` of what a rank has; its weights are not scaled yet."""
    if network.device != "cpu":
        raise ValueError(f"device is {network.device!r}; comm allows 'cpu' only")
    if settings.window is not None:
        raise ValueError(f"window is {settings.window!r}; comm allows None only: every rank has its examples in memory")
    if T is None:
        raise ValueError("T is None; comm allows arrays X and T only")
    X, T, _ = network._data(X, T, None)
    return X, T, None if sample_weight is None else as_weights(sample_weight, X.shape[0])


def _share_state(network: "Network", optimizer: Any, ranks: Any) -> None:
    """Take over rank 0's weights, state of the optimizer, counters and generator."""
    trainer = network._trainer

    def state() -> tuple[Any, ...]:
        goes_on = network._optimizer == optimizer
        return trainer.snapshot(), goes_on, network._updates, network._epochs, network._rng

    found = ranks.first(state)
    if ranks.rank > 0:
        arrays, goes_on, network._updates, network._epochs, network._rng = found
        trainer.restore(arrays)
        network._optimizer = optimizer if goes_on else None


def _identity(X: Any, T: Any, weight: Any, batch_size: int, watch: Watch) -> dict[str, Any]:
    """What a training depends on beside the network and the optimizer: a checkpoint of another is refused."""
    settings, given, ranks = watch.settings, watch.validation, watch.ranks
    if settings.checkpoint is None:
        return {}
    identity = {"batch_size": batch_size, **{name: getattr(settings, name) for name in ("shuffle", "tol", "patience")}}
    if T is None:  # a stream
        examples, shapes = X.like, (X.shape, X.t_shape)
        identity |= {"chunks": fingerprint(np.array(X.rows)), "window": X.window_rows}
    else:
        examples, shapes = (X, T), (ranks.shape(X), ranks.shape(T))
    identity |= {"X": shapes[0], "T": shapes[1], "hash of some rows": [ranks.fingerprint(data) for data in examples]}
    identity["sample_weight"] = None if weight is None else ranks.fingerprint(weight)
    return {**identity, "validation": None if given is None else [ranks.shape(data) for data in given[:2]]}


def check_batch_size(batch_size: Any, optimizer: Optimizer, m: int) -> int:
    """The examples of a minibatch: batch_size, or what it is when it is not given; refuses what cannot be one."""
    if isinstance(optimizer, (GradientDescent, LBFGS)):
        if batch_size is not None:
            raise ValueError(
                f"batch_size is {batch_size!r}; {type(optimizer).__name__} uses all examples at once: None is allowed"
            )
        return m
    if batch_size is None:
        return min(200, m)
    if not is_whole(batch_size) or batch_size < 1:
        raise ValueError(f"batch_size is {batch_size!r}; None or an integer >= 1 is allowed")
    return min(int(batch_size), m)


def _check_counts(epochs: Any, settings: Settings) -> None:
    if not is_whole(epochs) or epochs < 0:
        raise ValueError(f"epochs is {epochs!r}; an integer >= 0 is allowed")
    if not isinstance(settings.shuffle, (bool, np.bool_)):
        raise ValueError(f"shuffle is {settings.shuffle!r}; True or False is allowed")
    tol, patience = settings.tol, settings.patience
    number = isinstance(tol, (int, float, np.number)) and not isinstance(tol, bool)
    if tol is not None and not (number and tol >= 0 and math.isfinite(tol)):
        raise ValueError(f"tol is {tol!r}; None or a finite number >= 0 is allowed")
    if patience is not None:
        if not is_whole(patience) or patience < 1:
            raise ValueError(f"patience is {patience!r}; None or an integer >= 1 is allowed")
        if settings.validation is None:
            raise ValueError(f"patience is {patience} and validation is None; patience needs validation=(X, T)")
    check_every(settings.checkpoint_every)
    if not isinstance(settings.callbacks, Sequence) or not all(map(callable, settings.callbacks)):
        allowed = "a sequence of callables of (network, history)"
        raise ValueError(f"callbacks is {settings.callbacks!r}; {allowed} is allowed")


def check_every(every: Any) -> None:
    """Refuse a number of epochs between checkpoints that is none."""
    if not is_whole(every) or every < 1:
        raise ValueError(f"checkpoint_every is {every!r}; an integer >= 1 is allowed")


def learning_rate_of(schedule: Any, epoch: int) -> float:
    """A learning rate that is a number, or a function of the epoch whose answer is checked."""
    if not callable(schedule):
        return float(schedule)
    rate = schedule(epoch)
    if not (isinstance(rate, (int, float, np.number)) and math.isfinite(rate) and rate >= 0):
        raise ValueError(f"learning_rate({epoch}) is {rate!r}; a finite number >= 0 is allowed")
    return float(rate)


def check_rate(schedule: Any, epochs: int, rate: float | None, path: Any) -> None:
    """Refuse a checkpoint whose last epoch had another learning rate than the schedule gives."""
    if rate is None or epochs == 0 or not callable(schedule):
        return
    found = learning_rate_of(schedule, epochs - 1)
    if found != rate:
        raise ValueError(
            f"{path} is a checkpoint of another run: learning_rate({epochs - 1}) was {rate} and is {found}. Take "
            "another file, or the schedule that it was written with"
        )


def _seed(rng: Any) -> int:
    """A seed for an epoch's order, or for its dropout, from the network's generator."""
    draw = rng.integers if hasattr(rng, "integers") else rng.randint
    return int(draw(0, 2**62, dtype=np.int64))


def _descend(training: Training, bar: Callable[[int], None]) -> Passes:
    """GradientDescent, SGD and Adam."""
    network, optimizer, watch = training.network, training.optimizer, training.watch
    trainer = network._trainer
    before = _state(network)
    if network._optimizer != optimizer:
        _start_optimizer(network, optimizer)
    shuffle = training.shuffles
    drops = network.dropout > 0 and len(network.sizes) > 2
    names = ("momentum", "beta_1", "beta_2", "epsilon", "weight_decay")
    settings = {name: getattr(optimizer, name, 0.0) for name in names}
    settings |= {"rule": rule(optimizer), "remember": True, "max_norm": getattr(optimizer, "max_gradient_norm", None)}
    order = "shuffled" if shuffle else None
    data = training.X, training.T, training.weight
    epoch = training.ranks.epochs(trainer, *data, settings, training.batch_size, order, subset=training.subset)
    first = watch.history.n_epochs
    for number in range(first, training.epochs):
        # an epoch may fail to read its chunks, when the weights before it are to stand
        at_start = None if epoch.stream is None else _state(network)
        rate = watch.learning_rate(optimizer.learning_rate)
        epoch.begin(
            check=number == first,
            learning_rate=rate,
            updates=network._updates,
            order_seed=_seed(network._rng) if shuffle else 0,
            dropout_seed=_seed(network._rng) if drops else 0,
        )
        try:
            while True:
                done = epoch.done
                yield epoch
                bar(epoch.examples(epoch.done) - epoch.examples(done))
                if epoch.done == epoch.chunks or not math.isfinite(epoch.objective()):
                    break
        except BaseException as error:
            if at_start is not None and isinstance(error, Exception):
                _go_back_to(network, at_start)
            elif training.ranks.size == 1:  # after Ctrl-C the weights of that moment stand
                _epoch_ends(network, epoch, optimizer, before)
            raise
        objective = _epoch_ends(network, epoch, optimizer, at_start or before)
        network._epochs += 1
        stop = yield from watch.epoch_ends(objective)
        if network._optimizer is None:  # a callback has assigned weights or biases
            _start_optimizer(network, optimizer)
        watch.keep()
        if stop:
            return


def _epoch_ends(network: "Network", epoch: Any, optimizer: Any, before: tuple[Any, Any]) -> float:
    """Count an epoch's updates; returns its objective, or raises what explains numbers that are not finite."""
    network._updates += epoch.updates()
    objective = epoch.objective()
    if not (math.isfinite(objective) and epoch.left_finite()):
        _recover(network, epoch, optimizer, before)
    return objective


def _start_optimizer(network: "Network", optimizer: Any) -> None:
    """Fresh state for an optimizer."""
    network._trainer.start_moments(moments(optimizer))
    network._updates = network._epochs = 0
    network._optimizer = optimizer


def _snapshot(network: "Network") -> tuple[Any, ...]:
    """What training changes, but for the generator."""
    return network._trainer.snapshot(), network._optimizer, network._updates, network._epochs


def _restore(network: "Network", snapshot: tuple[Any, ...]) -> None:
    """Go back to a snapshot."""
    arrays, network._optimizer, network._updates, network._epochs = snapshot
    network._trainer.restore(arrays)


def _state(network: "Network") -> tuple[Any, Any]:
    """A snapshot, and the generator's state."""
    return _snapshot(network), copy.deepcopy(_rng_state(network._rng))


def _go_back_to(network: "Network", state: tuple[Any, Any]) -> None:
    """Go back to a state."""
    snapshot, rng = state
    _restore(network, snapshot)
    if hasattr(network._rng, "bit_generator"):
        network._rng.bit_generator.state = rng
    else:
        network._rng.set_state(rng)


def _rng_state(rng: Any) -> Any:
    return rng.bit_generator.state if hasattr(rng, "bit_generator") else rng.get_state()


def _recover(network: "Network", epoch: Any, optimizer: Any, before: tuple[Any, Any]) -> None:
    """Raise what explains numbers that are not finite: the data, and nothing has been changed; or divergence."""
    try:
        epoch.refuse_not_finite()
    except ValueError:
        _go_back_to(network, before)
        raise
    network._trainer.go_back()
    network._optimizer = None
    rate = learning_rate_of(optimizer.learning_rate, network._epochs)
    raise DivergenceError(
        f"training diverged in epoch {network._epochs + 1}: the objective or a weight is no longer finite. The weights "
        f"are those from before that epoch. Try a smaller learning_rate (it was "
        f"{rate:.3g}), max_gradient_norm, or inputs scaled to about -1 ... 1."
    )


class FullBatch:
    """The loss over all examples, its penalty and their gradient, as functions of one vector: weights, then biases."""

    def __init__(
        self, trainer: Any, X: Any, T: Any, weight: Any, loss_offsets: Any = None, subset: np.ndarray | None = None,
        ranks: Any = ALONE,
    ):  # fmt: skip
        self.trainer = trainer
        m = X.shape[0] if subset is None else len(subset)
        self._epoch = ranks.epochs(trainer, X, T, weight, {"rule": "store"}, m, subset, loss_offsets)
        self._check = True
        weights, biases = trainer.parameters()
        self.start = self._join(weights, biases)
        self._layers = len(weights)
        self._shapes = [array.shape for array in (*weights, *biases)]
        self._ends = np.cumsum([math.prod(shape) for shape in self._shapes])
        self._l2 = trainer.l2 * (np.arange(self._ends[-1]) < self._ends[self._layers - 1])  # biases have no penalty
        total = m if weight is None else weight.sum() if subset is None else weight[subset].sum()
        self._scale = 1.0 / ranks.total(total)

    @staticmethod
    def _join(weights: Any, biases: Any) -> np.ndarray:
        return np.concatenate([array.ravel() for array in (*weights, *biases)], dtype=np.float64)

    def put(self, vector: np.ndarray) -> None:
        """Give the trainer the weights and biases of a vector."""
        parts = np.split(vector.astype(self.trainer.dtype), self._ends[:-1])
        arrays = [part.reshape(shape) for part, shape in zip(parts, self._shapes, strict=True)]
        self.trainer.set_parameters(arrays[: self._layers], arrays[self._layers :])

    def __call__(self, vector: np.ndarray) -> tuple[float, float, np.ndarray]:
        """The mean loss, eq. 5, and the gradient of their sum; the first call refuses data that are not finite."""
        self.put(vector)
        self._epoch.begin(check=self._check)
        self._epoch.finish()
        if self._check:
            self._epoch.refuse_not_finite()
            self._check = False
        penalized = self._l2 * vector
        gradient = self._scale * self._join(*self._epoch.sums()) + penalized
        return self._epoch.mean_loss(), 0.5 * float(penalized @ vector), gradient


def _lbfgs(training: Training, bar: Callable[[int], None]) -> Passes:
    """SciPy's L-BFGS-B over the network's objective and gradients; weights and biases are one vector.

    SciPy calls back, so that the passes are run here: none is yielded.
    """
    from scipy.optimize import minimize

    network, optimizer, watch, epochs = training.network, training.optimizer, training.watch, training.epochs
    trainer = network._trainer
    data = training.X, training.T, training.weight
    evaluation = FullBatch(trainer, *data, subset=training.subset, ranks=training.ranks)

    def evaluate(vector: np.ndarray) -> tuple[float, np.ndarray]:
        loss, penalty, gradient = evaluation(vector)
        return loss + penalty, gradient

    iterate = evaluation.start
    objective, _ = evaluate(iterate)  # refuses X and T that are not finite before anything changes
    if not math.isfinite(objective):
        raise DivergenceError(f"the objective is {objective} at the start; try X and T scaled to about -1 ... 1")
    network._optimizer = None
    trainer.remember()

    def iteration_ends(intermediate_result: Any) -> None:
        nonlocal iterate
        iterate = intermediate_result.x.copy()
        evaluation.put(iterate)
        bar(training.m)
        stop = run(watch.epoch_ends(float(intermediate_result.fun)))
        trainer.remember()
        watch.keep()
        if stop:
            raise StopIteration

    first = watch.history.n_epochs
    options = {
        "maxiter": epochs - first,
        "maxfun": optimizer.max_evaluations,
        "maxcor": optimizer.memory,
        "gtol": optimizer.gradient_tolerance,
        "ftol": optimizer.objective_tolerance,
    }
    try:
        if epochs > first:
            result = minimize(evaluate, iterate, jac=True, method="L-BFGS-B", callback=iteration_ends, options=options)
            watch.ended = watch.history.n_epochs < epochs
            if watch.history.stopped == "epochs" and watch.ended and result.status != 1:
                watch.history.stopped = "tol"
    finally:
        evaluation.put(iterate)
    yield from ()


@contextmanager
def progress_bar(progress: Any, examples: int, done: int = 0) -> Iterator[Callable[[int], None]]:
    """A function that is told how many more examples are done, and shows it if there is to be a bar."""
    if not progress:
        yield lambda examples: None
        return
    from tqdm.auto import tqdm

    with tqdm(total=examples, initial=done, unit=" examples", unit_scale=True) as bar:
        yield bar.update
