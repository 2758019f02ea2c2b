"""X, T and the examples' weights on the device: all of them at once, or, where there is no room, in windows.

A window holds some chunks' examples in the order of the epoch. The host gathers a window into pinned memory, and a
stream of its own copies it, while the device works on the window before.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numba import cuda

from fastmlp.backend import SHARING
from fastmlp.cuda.layout import BYTES, LABELS, REALS, SPARSE
from fastmlp.cuda.ptx import SIMULATED
from fastmlp.inputs import is_sparse

BLOCK_BYTES = 1 << 25  # converted and copied at a time
SHARE = 0.8  # of the free memory that data may fill
WINDOW_BYTES = 1 << 28  # of a window, in pinned memory, at the most


def free_bytes() -> int:
    """Free memory of the device."""
    context = cuda.current_context()
    for holder in (context, getattr(context, "memory_manager", None)):  # what is to be freed counts as free
        pending = getattr(holder, "deallocations", None)
        if pending is not None:
            pending.clear()
    return int(min(context.get_memory_info()[0], 1 << 62))


def empty(size: int, kind: Any) -> Any:
    """An array on the device, with whatever is there."""
    try:
        return cuda.device_array(size, kind)
    except Exception as error:
        if "OUT_OF_MEMORY" not in str(error):
            raise
        needed, free = size * np.dtype(kind).itemsize / 1e9, free_bytes() / 1e9
        raise MemoryError(
            f"the GPU has {free:.2f} GB of free memory; {needed:.2f} GB more are needed. Try a smaller network or "
            f"batch_size, or device='cpu'"
        ) from None


def zeros(size: int, kind: Any) -> Any:
    """An array of zeros on the device."""
    array = empty(size, kind)
    cuda.cudadrv.driver.device_memset(array, 0, size * np.dtype(kind).itemsize)
    return array


def copy(array: Any, values: np.ndarray, stream: Any) -> None:
    """Copy values, as many as the array has and of its dtype, to the device; they are not to change before it is done.

    CUDA Python's own way makes new arrays for each copy, which takes longer than a training of a small network.
    """
    assert values.nbytes == array.nbytes and values.flags.c_contiguous
    if SIMULATED:
        array.copy_to_device(values, stream=stream)
    else:
        cuda.cudadrv.driver.host_to_device(array, values, values.nbytes, stream=stream)


class Columns(NamedTuple):
    """X and T as they are kept on the device, whatever they are on the host."""

    x_kind: int
    t_kind: int
    n_in: int
    n_out: int
    real: np.dtype
    row_bytes: int  # of an example in all

    @classmethod
    def of(cls, X: Any, T: Any, weights: Any, offsets: Any, real: np.dtype) -> "Columns":
        x_kind = SPARSE if is_sparse(X) else BYTES if X.dtype in (np.uint8, np.bool_) else REALS
        t_kind = LABELS if T is not None and T.ndim == 1 else REALS
        n_out = 0 if T is None else 1 if T.ndim == 1 else T.shape[1]
        if x_kind == SPARSE:
            size = (real.itemsize + 4) * -(-X.nnz // max(1, X.shape[0])) + 4
        else:
            size = X.shape[1] * (1 if x_kind == BYTES else real.itemsize)
        size += n_out * (4 if t_kind == LABELS else real.itemsize)
        size += 8 * ((weights is not None) + (offsets is not None))
        return cls(x_kind, t_kind, X.shape[1], n_out, real, size + 4)


class Arrays:
    """The data's arrays on the device: numbers, bytes, integers and weights (see work.Work), and their places."""

    def __init__(
        self, columns: Columns, rows: int, stored: int, ordered: bool, weighted: bool, offset: bool,
        like: "Arrays | None" = None,
    ):  # fmt: skip
        x_numbers = {REALS: rows * columns.n_in, SPARSE: stored, BYTES: 0}[columns.x_kind]
        t_numbers = rows * columns.n_out
        dense = columns.t_kind == REALS
        self.places = {"targets_data": x_numbers, "labels": rows if ordered else 0, "offsets": rows if weighted else 0}
        self.places["indptr"] = self.places["labels"] + (0 if dense else rows)
        self.places["columns"] = self.places["indptr"] + (rows + 1 if columns.x_kind == SPARSE else 0)
        integers = self.places["columns"] + (stored if columns.x_kind == SPARSE else 0)
        if like is None:
            self.reals = empty(max(1, x_numbers + dense * t_numbers), columns.real)
            self.bytes = empty(max(1, rows * columns.n_in if columns.x_kind == BYTES else 0), np.uint8)
        else:
            self.reals, self.bytes = like.reals, like.bytes
        self.integers = empty(max(1, integers), np.int32)
        self.weights = empty(max(1, (weighted + offset) * rows), np.float64)

    def put(self, name: str, place: int, values: np.ndarray, stream: Any = 0) -> None:
        """Copy values to a place of one of the arrays."""
        if values.size:
            getattr(self, name)[place : place + values.size].copy_to_device(values, stream=stream)


class Data:
    """X, T, the examples' weights and what is added to their losses.

    Parameters
    ----------
    X, T : arrays, or X a CSR matrix; T may be None
    weights, offsets : ndarray of float64 or None
    real : numpy.dtype
    bounds : sequence of int
        Where the windows begin among the examples of a pass, and where the last one ends; with one window all of X is
        on the device.
    ordered : bool
        Whether a pass has an order of its own.
    stream : Stream, optional
        Where the windows come from, in place of X and T, which are examples of its kind.
    """

    def __init__(
        self, X: Any, T: Any, weights: Any, offsets: Any, real: np.dtype, bounds: Sequence[int], ordered: bool,
        stream: Any = None,
    ):  # fmt: skip
        self.X, self.T, self.weights, self.offsets, self.source = X, T, weights, offsets, stream
        if stream is not None and is_sparse(X):
            raise ValueError("the chunks of X are sparse; a GPU takes dense chunks only: try device='cpu'")
        if is_sparse(X) and not X.has_canonical_format:
            self.X = X.copy()
            self.X.sum_duplicates()  # a row's entries are written at once
        if max(X.shape[0] + 1, getattr(self.X, "nnz", 0)) >= 1 << 31:
            stored = getattr(self.X, "nnz", "no")
            raise ValueError(f"X has {X.shape[0]} rows and {stored} stored values; a GPU takes fewer than 2^31 of each")
        self.columns = Columns.of(self.X, T, weights, offsets, np.dtype(real))
        self.resident, self.bounds, self.ordered = len(bounds) == 2 and stream is None, bounds, ordered
        self.order: np.ndarray | None = None
        if self.resident:
            # what is predicted may be other numbers in the same place; what trains stands as long as its Data
            there = None if T is None else SHARING.found
            like = None if there is None else there.get(self._origin())
            shared = None if like is None else like.arrays[0]
            self.arrays = [self._empty(X.shape[0], getattr(self.X, "nnz", 0), ordered, shared)]
            self._fill(self.arrays[0], shared is None)
            if there is not None:
                there[self._origin()] = self
            return
        window, stored = max(end - begin for begin, end in pairwise(bounds)), 0
        if self.columns.x_kind == SPARSE:
            each = np.sort(np.diff(self.X.indptr))[::-1]
            stored = int(each[:window].sum())  # whichever rows come together
        self.arrays = [self._empty(window, stored, False) for _ in range(2)]
        self._pinned = [[cuda.pinned_array(a.shape, a.dtype) for a in self._parts(arrays)] for arrays in self.arrays]
        self._stream = cuda.stream()
        self._copied, self._used = [cuda.event() for _ in range(2)], [cuda.event() for _ in range(2)]
        self._loaded = [-1, -1]

    def _empty(self, rows: int, stored: int, ordered: bool, like: Arrays | None = None) -> Arrays:
        return Arrays(self.columns, rows, stored, ordered, self.weights is not None, self.offsets is not None, like)

    def _origin(self) -> tuple[Any, ...]:
        """What is the same for data that are the same on the device: where they are on the host."""
        parts = [self.X.data, self.X.indptr] if is_sparse(self.X) else [self.X]
        parts += [] if self.T is None else [self.T]
        return self.columns, *((a.ctypes.data, a.shape, a.strides, a.dtype) for a in parts)

    @staticmethod
    def _parts(arrays: Arrays) -> list[Any]:
        return [arrays.reals, arrays.bytes, arrays.integers, arrays.weights]

    def fields(self) -> dict[str, int]:
        """What goes into a step."""
        fields = {"x_kind": self.columns.x_kind, "t_kind": self.columns.t_kind, "x_columns": self.columns.n_in}
        fields |= {"has_targets": self.T is not None, "weighted": self.weights is not None}
        return fields | {"has_offsets": self.offsets is not None, "ordered": self.resident and self.ordered}

    def _fill(self, arrays: Arrays, numbers: bool) -> None:
        """Copy everything to the device, block by block; `numbers`: X and dense targets, too."""
        X, T, columns = self.X, self.T, self.columns
        block = max(1, BLOCK_BYTES // max(1, columns.row_bytes))
        for begin in range(0, X.shape[0], block):
            rows = slice(begin, begin + block)
            if not numbers:
                pass
            elif columns.x_kind == BYTES:
                values = np.ascontiguousarray(X[rows]).view(np.uint8).ravel()
                arrays.put("bytes", begin * columns.n_in, values)
            elif columns.x_kind == REALS:
                arrays.put("reals", begin * columns.n_in, self._converted(X[rows]))
            if T is not None and columns.t_kind == LABELS:
                arrays.put("integers", arrays.places["labels"] + begin, np.ascontiguousarray(T[rows], np.int32))
            elif T is not None and numbers:
                place = arrays.places["targets_data"] + begin * columns.n_out
                arrays.put("reals", place, self._converted(T[rows]))
        if columns.x_kind == SPARSE:
            if numbers:
                arrays.put("reals", 0, self._converted(X.data))
            arrays.put("integers", arrays.places["indptr"], np.ascontiguousarray(X.indptr, np.int32))
            arrays.put("integers", arrays.places["columns"], np.ascontiguousarray(X.indices, np.int32))
        for place, values in ((0, self.weights), (arrays.places["offsets"], self.offsets)):
            if values is not None:
                arrays.put("weights", place, values)

    def _converted(self, values: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):  # the kernels find what is not finite
            return np.ascontiguousarray(values, self.columns.real).ravel()

    def begin(self, order: np.ndarray | None, stream: Any) -> None:
        """Take the order of the next pass, behind what is on the stream."""
        if self.source is not None:
            self._loaded = [-1, -1]
        if not self.ordered:
            return
        assert order is not None
        if self.resident:
            self._uploaded = order.astype(np.int32)  # not freed before the copy is made
            self.arrays[0].put("integers", 0, self._uploaded, stream)
        else:
            self.order = order
            self._loaded = [-1, -1]

    # ---- windows ---------------------------------------------------------------------------------------------------

    def open(self, number: int, stream: Any) -> Arrays:
        """The arrays with a window's examples; work on the stream waits until they are there."""
        side = number % 2
        self._load(number)
        self._copied[side].wait(stream)
        return self.arrays[side]

    def close(self, number: int, stream: Any) -> None:
        """The work on a window is on the stream: its arrays are free behind that; begin to load the next one."""
        self._used[number % 2].record(stream)
        if number + 2 < len(self.bounds):
            self._load(number + 1)

    def _load(self, number: int) -> None:
        side = number % 2
        if self._loaded[side] == number:
            return
        arrays, columns = self.arrays[side], self.columns
        reals, octets, integers, weights = self._pinned[side]
        self._copied[side].synchronize()  # the pinned memory is free
        self._used[side].wait(self._stream)  # and so is the device's
        rows: Any = slice(self.bounds[number], self.bounds[number + 1])
        if self.order is not None:
            rows = self.order[rows]
        filled = {"reals": 0, "bytes": 0, "integers": 0, "weights": 0}

        def keep(name: str, target: np.ndarray, place: int, values: np.ndarray) -> None:
            with np.errstate(over="ignore"):
                target[place : place + values.size] = values.ravel()
            filled[name] = max(filled[name], place + values.size)

        if self.source is None:
            X, T = self.X[rows], None if self.T is None else self.T[rows]
        else:
            X, T, order = self.source.window(number)
            X, T = X[order], T[order]
        if columns.x_kind == SPARSE:
            keep("reals", reals, 0, X.data)
            keep("integers", integers, arrays.places["indptr"], X.indptr)
            keep("integers", integers, arrays.places["columns"], X.indices)
        else:
            keep("bytes" if columns.x_kind == BYTES else "reals", octets if columns.x_kind == BYTES else reals, 0, X)
        if T is not None and columns.t_kind == LABELS:
            keep("integers", integers, arrays.places["labels"], T)
        elif T is not None:
            keep("reals", reals, arrays.places["targets_data"], T)
        for place, values in ((0, self.weights), (arrays.places["offsets"], self.offsets)):
            if values is not None:
                keep("weights", weights, place, values[rows])
        for name, pinned in zip(filled, (reals, octets, integers, weights), strict=True):
            arrays.put(name, 0, pinned[: filled[name]], self._stream)
        self._copied[side].record(self._stream)
        self._loaded[side] = number
