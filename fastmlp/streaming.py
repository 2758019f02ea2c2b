"""Training data that are read in chunks, so that memory is needed for a window of them only.

A training that streams asks a `Stream` for one window of examples after another. While a window is worked on, a thread
reads the next. With shuffling, the chunks come in a new random order every epoch, and the examples of a window in a
new random order: the more chunks a window holds, the better they mix.
"""

import bisect
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from fastmlp import inputs
from fastmlp.cpu.compiling import callable_at
from fastmlp.cpu.epoch import compiled_shuffle

WINDOW_BYTES = 1 << 26  # of X and T in a window, unless it is said how many examples it holds
CHUNKS_A_WINDOW = 16  # at least, of arrays and .npy files

Chunk = tuple[Any, Any]


class Shards(Sequence[Chunk]):
    """Examples in .npy files, or in several arrays: a sequence of chunks for `Network.train`.

    Files are mapped into memory and read when their turn comes. They may be of any number of rows, alike in X and T.

    Parameters
    ----------
    X, T : path-like, or sequence of path-like or ndarray
        A folder, whose .npy files are taken in the order of their names, or files and arrays, in their order: X of
        shape (rows, n_in), T of shape (rows, n_out) or (rows,).
    chunk_rows : int >= 1, optional
        Rows that are read together, and stay together in a shuffled order's window. About 4 MB of them when not given.

    Raises
    ------
    ValueError
        When there are no files, or X and T do not fit together.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import fastmlp
    >>> folder = tempfile.mkdtemp()
    >>> for name in "XT":
    ...     os.mkdir(os.path.join(folder, name))
    >>> for k in range(3):
    ...     np.save(os.path.join(folder, "X", f"{k}.npy"), np.full((50, 4), k, np.float32))
    ...     np.save(os.path.join(folder, "T", f"{k}.npy"), np.full((50, 1), k / 2, np.float32))
    >>> shards = fastmlp.Shards(os.path.join(folder, "X"), os.path.join(folder, "T"))
    >>> net = fastmlp.Network([4, 8, 1], random_state=0)
    >>> net.train(shards, optimizer=fastmlp.Adam(), epochs=3).n_epochs
    3
    """

    def __init__(self, X: Any, T: Any, chunk_rows: int | None = None):
        self._X, self._T = self._parts(X, "X"), self._parts(T, "T")
        if len(self._X) != len(self._T):
            raise ValueError(f"X has {len(self._X)} files or arrays and T has {len(self._T)}; as many are allowed")
        if chunk_rows is not None and not (inputs.is_whole(chunk_rows) and chunk_rows >= 1):
            raise ValueError(f"chunk_rows is {chunk_rows!r}; None or an integer >= 1 is allowed")
        self._places: list[tuple[int, int, int]] = []  # part, first and last row of each chunk
        for k in range(len(self._X)):
            X, T = self._open(self._X[k]), self._open(self._T[k])
            inputs.check_tables(X, f"X[{k}]")  # SciPy follows them when it cuts chunks
            rows, names = X.shape[0], (self._name(self._X[k], k, "X"), self._name(self._T[k], k, "T"))
            if X.ndim != 2 or T.ndim not in (1, 2) or T.shape[0] != rows:
                raise ValueError(f"{names[0]} has shape {X.shape} and {names[1]} has shape {T.shape}; (rows, n_in) "
                                 "and (rows, n_out) or (rows,), with as many rows, are allowed")  # fmt: skip
            step = chunk_rows or max(1, WINDOW_BYTES // CHUNKS_A_WINDOW // row_bytes(X, T))
            self._places += [(k, begin, min(begin + step, rows)) for begin in range(0, rows, int(step))]
        self.rows = [end - begin for _, begin, end in self._places]

    @staticmethod
    def _parts(data: Any, name: str) -> list[Any]:
        if isinstance(data, (str, os.PathLike)):
            if not os.path.isdir(data):
                raise ValueError(f"{name} is {os.fspath(data)!r}, which is no folder; a folder with .npy files, or a "
                                 "sequence of files or arrays, is allowed")  # fmt: skip
            found = sorted(Path(data).glob("*.npy"))
            if not found:
                raise ValueError(f"{name} is {os.fspath(data)!r}, which has no .npy files")
            return [path.absolute() for path in found]
        known = (str, os.PathLike, np.ndarray)
        if not isinstance(data, Sequence) or not all(isinstance(a, known) or inputs.is_sparse(a) for a in data):
            raise ValueError(f"{name} is {type(data).__name__}; a folder, or a sequence of files or arrays, is allowed")
        parts = list(data)
        if not parts:
            raise ValueError(f"{name} is empty; at least one file or array is allowed")
        return [Path(part).absolute() if isinstance(part, (str, os.PathLike)) else part for part in parts]

    @staticmethod
    def _open(part: Any) -> Any:
        if not isinstance(part, Path):
            return part if inputs.is_sparse(part) else np.asanyarray(part)
        try:
            return np.load(part, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise ValueError(f"{part} is no .npy file of numbers: {error}") from None

    @staticmethod
    def _name(part: Any, k: int, name: str) -> str:
        return str(part) if isinstance(part, Path) else f"{name}[{k}]"

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            raise TypeError("chunks are taken one at a time; an integer is allowed")
        k, begin, end = self._places[number]
        return self._open(self._X[k])[begin:end], self._open(self._T[k])[begin:end]


def row_bytes(X: Any, T: Any) -> int:
    """About how many bytes an example has."""
    sizes = [8 * -(-a.nnz // max(1, a.shape[0])) if inputs.is_sparse(a) else a[:1].nbytes for a in (X, T)]
    return max(1, sum(sizes))


def _fits(found: np.dtype, kept: np.dtype) -> bool:
    """Whether numbers of a dtype can stand among those of another and mean the same."""
    return bool(np.can_cast(found, kept, "safe")) or (found.kind == kept.kind == "f")


class Stream:
    """The examples of a sequence of chunks, a window at a time, for as many passes as are wanted.

    Parameters
    ----------
    chunks : sequence of (X, T)
        Where it has an attribute `rows`, that is how many examples each chunk has; else each is read once to count.
    window : int, optional
        Examples in a window; as many as WINDOW_BYTES hold when not given.
    check : callable
        (X, T, suffix) -> (X, T): refuses a chunk that does not suit the network, and names what is wrong with a suffix.
    """

    def __init__(self, chunks: Any, window: int | None, check: Callable[[Any, Any, str], Chunk]):
        self._chunks, self._check = chunks, check
        if len(chunks) == 0:
            raise ValueError("X has no chunks; at least one (X, T) is allowed")
        rows = getattr(chunks, "rows", None)
        if callable(rows):
            raise ValueError("rows of X is a method; a sequence, how many examples each chunk has, is allowed")
        self._kept: tuple[int, Chunk] | None = None  # the chunk read last, whose rest the next window takes
        if rows is None:
            rows = [self._chunk(k)[0].shape[0] for k in range(len(chunks))]
        self.rows = [int(count) for count in rows]
        if len(self.rows) != len(chunks):
            raise ValueError(f"rows of X has {len(self.rows)} entries; {len(chunks)}, one a chunk, are allowed")
        X, T = self._chunk(int(np.argmax(np.array(self.rows) > 0)))
        m = sum(self.rows)
        if m == 0:
            raise ValueError("the chunks of X have no rows; at least one row is allowed")
        self.like = X[:1].copy(), T[:1].copy()  # what the examples look like
        self.shape, self.t_shape, self.dtype = (m, X.shape[1]), (m, *T.shape[1:]), X.dtype
        self.window_rows = max(1, min(m, window or WINDOW_BYTES // row_bytes(*self.like)))
        self._reader = ThreadPoolExecutor(1, "fastmlp-reader")
        self._next: tuple[int, Future[Any]] | None = None
        self.begin([0, m], None)

    def _chunk(self, k: int) -> Chunk:
        if self._kept is not None and self._kept[0] == k:
            return self._kept[1]
        chunk = self._chunks[k]
        try:
            X, T = chunk
        except (TypeError, ValueError):
            raise ValueError(f"chunk {k} of X is {type(chunk).__name__}; a pair (X, T) is allowed") from None
        checked = self._check(X, T, f" of chunk {k}")
        counted = getattr(self, "rows", None)
        if counted is not None and checked[0].shape[0] != counted[k]:
            raise ValueError(f"X of chunk {k} has {checked[0].shape[0]} rows; it should have {counted[k]}, as before")
        if hasattr(self, "like"):
            for name, now, then in zip("XT", checked, self.like, strict=True):
                if now.shape[1:] != then.shape[1:] or inputs.is_sparse(now) != inputs.is_sparse(then):
                    raise ValueError(f"{name} of chunk {k} is not of the first chunk's kind; one kind is allowed")
                if not _fits(now.dtype, then.dtype):
                    found = f"{name} of chunk {k} is {now.dtype} and that of the first chunk {then.dtype}"
                    raise ValueError(f"{found}; one dtype is allowed")
        self._kept = k, checked
        return checked

    def begin(self, bounds: Sequence[int], seed: int | None) -> None:
        """Start a pass, whose n-th window has the examples bounds[n] ... bounds[n + 1] - 1 of it.

        With a seed they come in a random order; in one window that is the order of a training in memory.
        """
        self._stop_reading()
        self._bounds, self._seed = bounds, seed
        order = np.arange(len(self.rows))
        if seed is not None and len(bounds) > 2:
            np.random.Generator(np.random.PCG64(seed)).shuffle(order)
        self._order = order.tolist()
        self._ends = list(accumulate(self.rows[k] for k in self._order))

    def window(self, number: int) -> tuple[Any, Any, np.ndarray]:
        """X, T and the order of the examples of a window; windows are asked for one after another."""
        if self._next is not None and self._next[0] == number:
            found = self._next[1].result()
        else:
            self._stop_reading()
            found = self._read(number)
        self._next = None
        if number + 2 < len(self._bounds):
            self._next = number + 1, self._reader.submit(self._read, number + 1)
        return found

    def _stop_reading(self) -> None:
        """Let no other thread read any more; what is under way comes to its end."""
        if self._next is not None and not self._next[1].cancel():
            self._next[1].exception()
        self._next = None

    def pieces(self, number: int) -> list[tuple[int, int, int]]:
        """Chunk, first and last row of all that a window has, in order."""
        begin, end = self._bounds[number], self._bounds[number + 1]
        found = []
        place = bisect.bisect_right(self._ends, begin)
        while begin < end:
            k, stop = self._order[place], self._ends[place]
            start = stop - self.rows[k]
            last = min(end, stop)
            if last > begin:
                found.append((k, begin - start, last - start))
            begin, place = max(begin, last), place + 1
        return found

    @staticmethod
    def _empty(like: Any, rows: int) -> Any:
        return None if inputs.is_sparse(like) else np.empty((rows, *like.shape[1:]), like.dtype)

    def _read(self, number: int) -> tuple[Any, Any, np.ndarray]:
        # read at once: a chunk may be a memory map, or be overwritten by the next
        X, T = (self._empty(example, self._bounds[number + 1] - self._bounds[number]) for example in self.like)
        parts, first = [], 0
        for k, begin, end in self.pieces(number):
            x, t = self._chunk(k)
            last = first + end - begin
            if X is None:
                parts.append(x[begin:end].copy())
            else:
                with np.errstate(over="ignore"):  # the kernels find what is not finite
                    X[first:last] = x[begin:end]
            T[first:last] = t[begin:end]
            first = last
        if X is None:
            from scipy.sparse import vstack

            X = vstack(parts, format="csr")
        order = np.arange(X.shape[0])
        if self._seed is not None:
            seed = self._seed + number  # that of a training in memory when there is one window
            callable_at(compiled_shuffle().address, 4)(order.ctypes.data, 0, len(order), seed)
        return X, T, order

    def not_finite_error(self, dtype: np.dtype) -> ValueError | None:
        """The error that names the first number that is not finite; every chunk before it is read once more."""
        self._stop_reading()
        for k in range(len(self._chunks)):
            for name, data in zip("XT", self._chunk(k), strict=True):
                error = inputs.not_finite_error(data, dtype, f"{name} of chunk {k}")
                if error is not None:
                    return error
        return None
