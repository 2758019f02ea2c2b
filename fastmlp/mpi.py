"""One network on many machines: every rank of an MPI communicator has some of the examples, and U and V are summed.

All ranks start with rank 0's weights and make the same updates, so they have the same bits throughout. An epoch's order
is drawn over the examples of all ranks, in rank order, as one process with all of them would draw it; a rank goes
through those of each minibatch that it has. U and V (eq. 10-13) of layers that follow one another travel together,
from the top layer on while eq. 9 goes on below: each rank adds a part of them, in the order of the ranks, and hands
the sum to all. So the bits do not depend on how the MPI library would add, and the weights not on the number of
ranks, but for rounding.
"""

import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import numba
import numpy as np

from fastmlp.codes import RULES, STORE
from fastmlp.cpu.compiling import cache_key, callable_at
from fastmlp.cpu.epoch import compiled_epoch, compiled_shuffle
from fastmlp.cpu.layout import CHUNK_ROWS, EXAMPLES, MEASURE, ROOM_WORDS, SUM, UPDATE, aligned, padded
from fastmlp.cpu.team import assemble
from fastmlp.cpu.threads import ThreadShare
from fastmlp.cpu.trainer import PLACES, Epochs, Trainer, call_on_threads, first_guess
from fastmlp.cpu.vector import TILE_ROWS
from fastmlp.inputs import fingerprint_of, fingerprint_rows, is_sparse, some_rows

# Layers share a message until it has so many bytes: a message of this size takes far longer than its latency (tens of
# microseconds) on any network up to 100 Gbit/s, so cutting finer would gain nothing, and coarser would overlap less.
BUCKET_BYTES = 1 << 19

# How long a rank waits for the others, in seconds, when an error that they may not know of ends its training.
PATIENCE = 5.0

Result = TypeVar("Result")


class Shard(NamedTuple):
    """Which of all ranks' examples a rank has: begin <= n < end of m."""

    begin: int
    end: int
    m: int


class Alone:
    """What a training asks of all ranks when there is one process and no communicator."""

    rank, size = 0, 1
    shared = False

    def gather(self, function: Callable[[], Result]) -> list[Result]:
        """What function() gives on each rank, in order; an error on one is raised on all."""
        return [function()]

    def first(self, function: Callable[[], Result]) -> Result:
        """What function() gives on rank 0; an error there is raised on all."""
        return function()

    def each(self, function: Callable[[], Result]) -> Result:
        """What function() gives here, when all ranks have come to its end; an error on one is raised on all."""
        found: list[Result] = []
        self.gather(lambda: found.append(function()))
        return found[0]

    def same(self, **settings: Any) -> None:
        """Refuse settings that are not the same on all ranks."""

    def total(self, number: float) -> Any:
        """The sum of a number over the ranks, in their order."""
        return sum(self.gather(lambda: number))

    def joined(self, array: Any) -> Any:
        """The arrays of all ranks, one behind another; None where they are None."""
        arrays = self.gather(lambda: array)
        if len(arrays) == 1 or array is None:
            return array
        if is_sparse(array):
            from scipy.sparse import vstack

            return vstack(arrays, format="csr")
        return np.concatenate(arrays)

    def shard(self, rows: int) -> Shard:
        """Which examples of all a rank's `rows` are."""
        counts = self.gather(lambda: rows)
        begin = sum(counts[: self.rank])
        return Shard(begin, begin + rows, sum(counts))

    def shape(self, data: Any) -> tuple[int, ...]:
        """The shape of an array that all ranks have a part of the rows of."""
        return (self.shard(data.shape[0]).m, *data.shape[1:])

    def fingerprint(self, data: Any) -> str:
        """inputs.fingerprint of an array or CSR matrix that all ranks have a part of the rows of."""
        shard = self.shard(data.shape[0])
        rows = fingerprint_rows(shard.m)
        own = rows[(rows >= shard.begin) & (rows < shard.end)] - shard.begin
        return fingerprint_of((shard.m, *data.shape[1:]), self.joined(some_rows(data, own)))

    def epochs(self, trainer: Any, *arguments: Any, **more: Any) -> Any:
        """Training passes over the examples of all ranks."""
        return trainer.epochs(*arguments, **more)


ALONE = Alone()


class Ranks(Alone):
    """The ranks of a communicator, of which duplicates are used.

    Attributes
    ----------
    rank, size : int
    """

    shared = True

    def __init__(self, comm: Any):
        from mpi4py import MPI

        self.comm, self._ends = comm.Dup(), comm.Dup()
        self.rank, self.size = comm.Get_rank(), comm.Get_size()
        node = comm.Split_type(MPI.COMM_TYPE_SHARED)
        own = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
        cores = set().union(*node.allgather(own))
        self.threads = max(1, len(cores) // node.Get_size())  # a fair part of what the ranks on this machine may use
        node.Free()
        self._agreed: BaseException | None = None

    def _answer(self, function: Callable[[], Result]) -> tuple[Any, Result | None, Exception | None]:
        """What function() raises, as a kind and a text, what it gives, and the error itself."""
        try:
            return None, function(), None
        except Exception as error:
            kind = ValueError if isinstance(error, ValueError) else RuntimeError
            return (kind, str(error) if kind is ValueError else f"{type(error).__name__}: {error}"), None, error

    def _agree(self, problems: list[Any], own: Exception | None) -> None:
        """Raise this rank's error, or the first of another rank."""
        for rank, problem in enumerate(problems):
            if problem is not None:
                kind, text = problem
                self._agreed = own or kind(f"rank {rank}: {text}")
                raise self._agreed

    def gather(self, function: Callable[[], Result]) -> list[Result]:
        problem, result, error = self._answer(function)
        answers = self.comm.allgather((problem, result))
        self._agree([problem for problem, _ in answers], error)
        return [result for _, result in answers]

    def first(self, function: Callable[[], Result]) -> Result:
        problem: Any
        result: Any
        if self.rank == 0:
            problem, result, error = self._answer(function)
            self.comm.bcast((problem, result))  # what it returns is a copy, and a generator is to go on, not a copy
        else:
            (problem, result), error = self.comm.bcast(None), None
        self._agree([problem], error)
        return result

    def same(self, **settings: Any) -> None:
        # what machine code depends on: another processor may round another way
        settings |= {"the kernels' code": cache_key(), "Numba": numba.__version__, "NumPy": np.__version__}
        found = self.gather(lambda: settings)
        for rank, other in enumerate(found):
            for name in (*found[0], *(name for name in other if name not in found[0])):
                here, there = found[0].get(name), other.get(name)
                if here != there and repr(here) != repr(there):  # NaN is not itself
                    hint = "the same on all ranks is allowed"
                    if name == "the kernels' code":
                        hint += " (where processors differ, NUMBA_CPU_NAME and NUMBA_CPU_FEATURES name one for all)"
                    self._agreed = ValueError(f"{name} is {there!r} on rank {rank} and {here!r} on rank 0; {hint}")
                    raise self._agreed

    def epochs(self, trainer: Any, *arguments: Any, **more: Any) -> Any:
        return SharedEpochs(self, trainer, *arguments, **more)

    def scaled(self, weight: np.ndarray | None) -> np.ndarray | None:
        """The examples' weights divided by the largest of all ranks, as inputs.as_sample_weight does."""
        if weight is None:
            return None
        largest = max(self.gather(lambda: float(weight.max())))
        if largest == 0:
            raise ValueError("sample_weight is 0.0 everywhere; at least one weight must be positive")
        return weight / largest

    def numbers(self, values: list[float]) -> np.ndarray:
        """The float64 numbers of each rank, a row each."""
        found = np.empty((self.size, len(values)))
        self.comm.Allgather(np.array(values, np.float64), found)
        return found

    def leave(self, error: BaseException | None) -> None:
        """Wait until all ranks have come here; end all of them when that does not happen after an error.

        An error that all know of is as good as an end. One in the middle of an epoch finds the others waiting for a
        message, from which nothing but the end of all gets them out.
        """
        request, begin = self._ends.Ibarrier(), time.perf_counter()
        if error is None or error is self._agreed:
            request.Wait()
        while not request.Test():
            if time.perf_counter() - begin > PATIENCE:
                traceback.print_exception(error)
                text = f"{type(error).__name__}: {error}"
                print(f"fastmlp: rank {self.rank} cannot go on ({text}); all {self.size} ranks end", file=sys.stderr)
                sys.stderr.flush()
                self.comm.Abort(1)
            time.sleep(1e-3)
        self.comm.Free()
        self._ends.Free()


def lbfgs_settings() -> dict[str, Any]:
    """What L-BFGS's bits depend on beside the gradients: every rank runs SciPy, whose sums BLAS cuts by its threads."""
    import scipy.optimize
    from threadpoolctl import threadpool_info

    threads = {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}
    return {"SciPy": scipy.__version__, "threads of BLAS (OMP_NUM_THREADS)": sorted(threads)}


@contextmanager
def together(comm: Any) -> Iterator[Alone]:
    """The ranks of a communicator for one training, or ALONE where it is None."""
    if comm is None:
        yield ALONE
        return
    try:
        from mpi4py import MPI
    except ImportError as error:
        raise ImportError(f"comm needs mpi4py, and MPI: pip install 'fastmlp[mpi]' ({error})") from None
    if not isinstance(comm, MPI.Comm) or comm == MPI.COMM_NULL or comm.Is_inter():
        raise ValueError(f"comm is {comm!r}; None or an intracommunicator of mpi4py, as MPI.COMM_WORLD, is allowed")
    ranks = Ranks(comm)
    try:
        yield ranks
    except BaseException as error:
        ranks.leave(error)
        raise
    ranks.leave(None)


class Bucket:
    """U and V of some layers, first <= l < end, on their way through all ranks.

    Rank r is sent the r-th part of everybody's (`start`), adds them in the order of the ranks and sends the sum to
    all (`add`).
    """

    def __init__(self, ranks: Ranks, numbers: np.ndarray, first: int, end: int):
        from mpi4py import MPI

        self.first, self.end, self.comm = first, end, ranks.comm
        kind = MPI.FLOAT if numbers.dtype == np.float32 else MPI.DOUBLE
        part = padded(-(-numbers.size // ranks.size), 64 // numbers.itemsize)
        bounds = np.minimum(np.arange(ranks.size + 1) * part, numbers.size)
        counts = np.diff(bounds)
        own = int(counts[ranks.rank])
        self.parts = aligned(ranks.size * own, numbers.dtype).reshape(ranks.size, own)
        self.sum = aligned(own, numbers.dtype)
        self._all = [numbers, (counts.tolist(), bounds[:-1].tolist()), kind]
        self._parts = [self.parts, ([own] * ranks.size, (np.arange(ranks.size) * own).tolist()), kind]
        self._sum = [self.sum, own, kind]
        self._request: Any = None
        self.nbytes = numbers.nbytes
        self.bytes_sent = (numbers.size - own + (ranks.size - 1) * own) * numbers.itemsize

    def start(self) -> None:
        """Let the parts travel to those who add them."""
        self._request = self.comm.Ialltoallv(self._all, self._parts)

    def add(self) -> None:
        """Add the parts that have come, and let the sum travel to all."""
        self._request.Wait()
        np.add.reduce(self.parts, axis=0, out=self.sum)
        self._request = self.comm.Iallgatherv(self._sum, self._all)

    def wait(self) -> None:
        """Wait until the sums are here."""
        self._request.Wait()


class SharedEpochs(Epochs):
    """Passes over the examples of all ranks, of which X and T have this rank's; as many on every rank.

    `chunks` are minibatches of all ranks, and so are `m`, `batch_size` and `order`, whose numbers count the examples in
    the order of the ranks. What a pass found is known to all ranks after each slice. Every rank lays out the order of
    all examples for itself, 8 bytes each, so that nobody need be asked for it.
    """

    def __init__(
        self, ranks: Ranks, trainer: Trainer, X: Any, T: Any, sample_weight: Any, settings: dict[str, Any],
        batch_size: int, order: Any = None, loss_offsets: Any = None, subset: None = None,
    ):  # fmt: skip
        rows = X.shape[0]
        self.ranks, self.shard = ranks, ranks.shard(rows)
        self._whole = order
        self.all_m = self.shard.m if order is None or isinstance(order, str) else len(order)
        self._rule = RULES[settings["rule"]]
        looks_only = settings["rule"] in ("store", "evaluate")
        self._batch = self.all_m if looks_only else min(batch_size, self.all_m)
        self._clip = settings.get("max_norm") is not None
        self._weights = ranks.joined(sample_weight)
        minibatches = -(-self.all_m // self._batch)
        self._starts = np.arange(minibatches) * self._batch
        self._stops = np.minimum(self._starts + self._batch, self.all_m)
        self._drawn = False
        local, most = np.empty(max(1, rows), np.int64), max(1, min(self._batch, rows))
        super().__init__(trainer, X, T, sample_weight, settings, most, local, loss_offsets)
        self.m, self.chunks, self.chunks_each = self.all_m, minibatches, 1
        self.threads = min(self.threads, ranks.threads)
        step = self.step[0]
        step["m"], step["batch_size"], step["shared"] = self.all_m, self._batch, ranks.size > 1
        work = (2.0 if settings["rule"] == "evaluate" else 6.0) * trainer.work
        self._seconds_a_chunk = first_guess(work, self.all_m / self.chunks / ranks.size, trainer.dtype)
        self.room = room = trainer._room(most)
        room.prepare(self.threads, True)
        self._gradients = room.arrays["gradients"]
        self._addresses = self.step.ctypes.data, room.arrays["activations"].ctypes.data
        self.buckets = [] if settings["rule"] == "evaluate" or ranks.size == 1 else self._fill_buckets()
        self._run_alone = callable_at(compiled_epoch().address, 4)

    def _fill_buckets(self) -> list[Bucket]:
        """Layers from the top on, joined until they are worth a message."""
        layers, gradients = self.trainer.layers, self._gradients
        end, stop, found = len(layers), self.trainer.model["parameters"].size, []
        for l in range(len(layers) - 1, -1, -1):
            start = int(layers[l]["weights"])
            if l == 0 or (stop - start) * gradients.itemsize >= BUCKET_BYTES:
                found.append(Bucket(self.ranks, gradients[start:stop], l, end))
                end, stop = l, start
        return found

    @property
    def bytes_sent(self) -> int:
        """What this rank sends in a minibatch."""
        return sum(bucket.bytes_sent for bucket in self.buckets)

    def begin(
        self, check: bool = False, learning_rate: float = 0.0, updates: int = 0, order_seed: int = 0,
        dropout_seed: int = 0,
    ) -> None:  # fmt: skip
        super().begin(check, learning_rate, updates, order_seed, dropout_seed)
        self._found, self._seed = (0.0, False), order_seed
        self._drawn = self._drawn and self._whole is None

    def _draw(self, seed: int) -> None:
        """Lay out which of this rank's examples come in which minibatch, and where in it."""
        shard, order = self.shard, self._whole
        if isinstance(order, str):
            order = np.empty(self.all_m, np.int64)
            callable_at(compiled_shuffle().address, 4)(order.ctypes.data, 0, self.all_m, seed)
        if order is None:
            places = np.arange(shard.begin, shard.end)
            own = np.arange(shard.end - shard.begin)
        else:
            places = np.flatnonzero((order >= shard.begin) & (order < shard.end))
            own = order[places] - shard.begin
        self._kept[0][: len(own)] = own
        ends = np.searchsorted(places, self._stops).astype(np.int64)
        if self._weights is None:
            totals = (self._stops - self._starts).astype(np.float64)
        else:
            totals = np.add.reduceat(self._weights if order is None else self._weights[order], self._starts)
        rows = ends - np.searchsorted(places, self._starts)
        chunks = np.maximum(1, -(-rows // CHUNK_ROWS))
        each = np.maximum(1, padded(-(-rows // chunks), TILE_ROWS))  # as begin_chunk cuts them
        self._last_chunks = np.maximum(0, -(-rows // each) - 1).tolist()
        self._laid_out = ends, totals, places % self._batch
        step = self.step[0]
        for name, array in zip(("ends", "totals", "places"), self._laid_out, strict=True):
            step[name] = array.ctypes.data
        self._drawn = True

    def run(self, last: int) -> None:
        """Go on until `last` minibatches are done."""
        if not self._drawn:
            self._draw(self._seed)
        self.room.prepare(self.threads, True)
        self._words[:ROOM_WORDS] = self.room.step.view(np.int64)[:ROOM_WORDS]
        first, each, layers = self.done, -(-self._batch // CHUNK_ROWS), len(self.trainer.layers)
        self._kernel_seconds = 0.0
        with ThreadShare(self._choose_threads()) as threads:
            if not self.buckets:  # nothing travels
                self._call(threads, (first * each, last * each, EXAMPLES, UPDATE, 0, layers, False))
            else:
                if first == 0:
                    self._call(threads, (0, 0, EXAMPLES, UPDATE, 0, layers, False))  # begins the epoch
                for minibatch in range(first, last):
                    begin = minibatch * each
                    self._run_minibatch(threads, begin, begin + self._last_chunks[minibatch])
                self._call(threads, (last * each, last * each, EXAMPLES, UPDATE, 0, layers, False))  # ends the slice
            self._paces[threads] = self._kernel_seconds / max(1, last - first)
        self.done = last

    def _run_minibatch(self, threads: int, first: int, last: int) -> None:
        """The chunks first ... last of a minibatch, and the update by the sums of all ranks."""
        before = None
        for bucket in self.buckets:
            begin = last if before else first
            self._call(threads, (begin, last + 1, EXAMPLES, SUM, bucket.first, bucket.end, True))
            bucket.start()
            if before:
                before.add()
            before = bucket
        self.buckets[-1].add()
        for bucket in self.buckets:
            bucket.wait()
            if not (self._clip or self._rule == STORE):
                self._call(threads, (last, last + 1, UPDATE, UPDATE, bucket.first, bucket.end, True))
        if self._clip and self._rule != STORE:
            self._call(threads, (last, last + 1, MEASURE, UPDATE, 0, len(self.trainer.layers), True))

    def _call(self, threads: int, asked: tuple[int, ...]) -> None:
        """Run what is asked for: from and to which chunk, phase and layer, and whether it is a part of more."""
        begin = time.perf_counter()
        self._words[ASKED : ASKED + len(asked)] = asked
        if threads == 1:
            self._run_alone(*self._addresses, 0, 1)
        else:
            assemble(self.room.arrays["team"])
            call_on_threads(compiled_epoch().address, self.step, self.room.arrays["activations"], threads)
        self._kernel_seconds += time.perf_counter() - begin

    def run_slice(self) -> int:
        """Go on for a while, as long on all ranks; they learn of each other what they found."""
        count = super().run_slice()
        found = self.ranks.numbers([super().mean_loss(), super().met_not_finite(), self._seconds_a_chunk])
        self._found = sum(found[:, 0].tolist()), bool(found[:, 1].any())
        self._seconds_a_chunk = float(found[:, 2].max())
        return count

    def mean_loss(self) -> float:
        return self._found[0]

    def met_not_finite(self) -> bool:
        return self._found[1]

    def refuse_not_finite(self) -> None:
        if self.met_not_finite():
            self.ranks.each(super().refuse_not_finite)


ASKED = PLACES["from_chunk"][0]  # the words of a step, one behind another, that say what a call is to run
