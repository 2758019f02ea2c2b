"""What X, T and sample_weight may be: refused with an error that names the argument, or taken as they are."""

import hashlib
import math
from typing import Any

import numpy as np

CHUNK = 1 << 18  # numbers looked at in one go, so that a check needs little memory

NUMBERS = frozenset(
    np.dtype(name) for name in "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64".split()
)


def is_sparse(X: Any) -> bool:
    """Whether X is one of SciPy's sparse matrices or arrays (without importing SciPy)."""
    return hasattr(X, "tocsr") and hasattr(X, "nnz")


def as_array(X: Any, name: str) -> np.ndarray:
    """X as an array of a dtype that can be gathered from; only lists, frames and exotic dtypes are copied."""
    if isinstance(X, np.ma.MaskedArray) and X.dtype.kind != "V" and np.ma.is_masked(X):
        raise ValueError(f"{name} is a masked array with masked entries; arrays without missing values are allowed")
    if X is None:
        raise ValueError(f"{name} is None; an array of real numbers is allowed")
    if is_sparse(X):
        raise ValueError(f"{name} is a sparse {type(X).__name__}; a dense array is allowed")
    if not isinstance(X, np.ndarray):
        try:
            X = np.asarray(X)
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"{name} cannot be made an array: {error}; rows of equal length are allowed") from None
    if X.dtype in NUMBERS and X.dtype.isnative:
        return X.view(np.ndarray)
    if X.dtype.kind in "biuf":
        return X.astype(np.float64 if X.dtype.kind == "f" and X.dtype.itemsize > 4 else X.dtype.newbyteorder("="))
    if X.dtype.kind == "O":
        try:
            return X.astype(np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"{name} has dtype object with entries that are no numbers: {error}") from None
    raise ValueError(f"{name} has dtype {X.dtype.name}; real numbers (integers, float16, float32, float64) are allowed")


def check_tables(X: Any, name: str) -> None:
    """Refuse a sparse matrix whose tables point beyond what is stored: SciPy and the kernels would follow them."""
    if not hasattr(X, "check_format"):
        return
    if X.ndim != 2:
        raise ValueError(f"{name} is a sparse array of shape {X.shape}; one of two dimensions is allowed")
    try:
        X.check_format(full_check=True)
    except ValueError as error:
        raise ValueError(f"{name} is no valid sparse matrix: {error}") from None
    indptr = getattr(X, "indptr", np.empty(0))
    if np.any(indptr[1:] < indptr[:-1]):  # which SciPy does not look at where the last one is 0
        raise ValueError(f"{name} is no valid sparse matrix: indptr must be a non-decreasing sequence")


def as_examples(X: Any, columns: int, name: str = "X", rows: int | None = None) -> Any:
    """X as an array or CSR matrix of shape (m, columns); see `as_array`."""
    if is_sparse(X):
        check_tables(X, name)
        X = X.tocsr()
        if X.dtype.kind not in "biuf":
            raise ValueError(f"{name} has dtype {X.dtype.name}; real numbers are allowed")
        if X.dtype not in NUMBERS or X.dtype == np.float16:
            X = X.astype(np.float64)
    else:
        X = as_array(X, name)
    if X.ndim != 2 or X.shape[1] != columns or (rows is not None and X.shape[0] != rows):
        expected = "m" if rows is None else rows
        raise ValueError(f"{name} has shape {X.shape}; ({expected}, {columns}) is allowed for this network")
    return X


def as_targets(T: Any, rows: int, outputs: int, output: str, loss: str, name: str = "T") -> np.ndarray:
    """T as an array of shape (rows, outputs), or of class labels (rows,) for softmax, within the loss's range."""
    T = as_array(T, name)
    if T.shape[:1] != (rows,):
        raise ValueError(f"{name} has shape {T.shape}; its first dimension must be the {rows} rows of X")
    if T.ndim == 1 and output == "softmax":
        return _labels(T, outputs, name)
    if T.ndim == 1 and outputs == 1:
        T = T.reshape(-1, 1)
    if T.shape != (rows, outputs):
        also = f", or ({rows},) class labels" if output == "softmax" else ""
        raise ValueError(f"{name} has shape {T.shape}; ({rows}, {outputs}) is allowed for this network{also}")
    if loss == "log_loss":
        _check_probabilities(T, output == "softmax", name)
    return T


def _labels(T: np.ndarray, outputs: int, name: str) -> np.ndarray:
    if T.dtype.kind == "f":
        between = T[T != np.floor(T)]
        found = f"{between[0]}" if len(between) else f"numbers of dtype {T.dtype}"
        raise ValueError(
            f"{name} has shape {T.shape} and holds {found}; one-dimensional targets of a softmax output must be class "
            f"labels of an integer dtype, 0 ... {outputs - 1}"
        )
    if T.dtype == bool:
        T = T.view(np.uint8)
    if len(T) == 0:
        return T
    for label in (T.min(), T.max()):
        if not 0 <= label < outputs:
            raise ValueError(f"{name} holds the class label {label}; integers 0 ... {outputs - 1} are allowed")
    return T


def _check_probabilities(T: np.ndarray, sums_to_one: bool, name: str) -> None:
    step = max(1, CHUNK // T.shape[1])
    for begin in range(0, len(T), step):
        rows = T[begin : begin + step]
        lowest, highest = rows.min(), rows.max()
        if math.isnan(lowest):
            raise ValueError(f"{name} holds nan; log_loss allows targets in [0, 1]")
        if lowest < 0 or highest > 1:
            raise ValueError(f"{name} holds {lowest if lowest < 0 else highest}; log_loss allows targets in [0, 1]")
        if sums_to_one:
            sums = rows.sum(axis=1, dtype=np.float64)
            worst = int(np.argmax(np.abs(sums - 1)))
            if abs(sums[worst] - 1) > 1e-3:
                raise ValueError(
                    f"row {begin + worst} of {name} sums to {sums[worst]:.6g}; softmax allows rows that sum to 1"
                )


def fingerprint(data: Any) -> str:
    """A hash of the shape and of some rows of an array or CSR matrix, whatever their dtype."""
    return fingerprint_of(data.shape, some_rows(data, fingerprint_rows(data.shape[0])))


def fingerprint_rows(m: int) -> np.ndarray:
    """Which rows of m a fingerprint is taken of."""
    return np.unique(np.linspace(0, max(0, m - 1), 64).astype(np.int64))[:m]


def some_rows(data: Any, rows: np.ndarray) -> np.ndarray:
    """Some rows of an array or CSR matrix, whatever their dtype, as float64 or text."""
    some = data[rows].toarray() if is_sparse(data) else np.asarray(data[rows])
    return some.astype(np.float64) if some.dtype.kind in "biuf" else some.astype(str)


def fingerprint_of(shape: tuple[int, ...], some: np.ndarray) -> str:
    """A hash of the shape of data and of some of their rows."""
    return hashlib.sha256(repr(shape).encode() + np.ascontiguousarray(some).tobytes()).hexdigest()[:16]


def is_whole(value: Any) -> bool:
    """Whether a value is an integer, Python's or NumPy's, and no truth value."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def as_hidden_layer(layer: Any, hidden: int) -> int:
    """The number of one of so many hidden layers, 0 or more; given from the end where it is negative."""
    if hidden == 0:
        raise ValueError("the network has no hidden layer, so that it represents X by nothing but X itself")
    if not is_whole(layer) or not -hidden <= layer < hidden:
        raise ValueError(f"layer is {layer!r}; an integer from {-hidden} to {hidden - 1}, a hidden layer, is allowed")
    return int(layer) % hidden


def as_sample_weight(sample_weight: Any, rows: int, name: str = "sample_weight") -> np.ndarray | None:
    """sample_weight as float64 of shape (rows,), finite, not negative and not all zero; None stays None."""
    if sample_weight is None:
        return None
    weight = as_weights(sample_weight, rows, name)
    if not weight.any():
        raise ValueError(f"{name} is 0.0 everywhere; at least one weight must be positive")
    return weight / weight.max()  # means do not change, and float32 holds the result


def as_weights(sample_weight: Any, rows: int, name: str = "sample_weight") -> np.ndarray:
    """sample_weight as float64 of shape (rows,), finite and not negative."""
    weight = np.ascontiguousarray(as_array(sample_weight, name), dtype=np.float64)
    if weight.shape != (rows,):
        raise ValueError(f"{name} has shape {weight.shape}; ({rows},) is allowed, one for each row of X")
    if not np.isfinite(weight).all() or weight.min() < 0:
        wrong = weight[~(np.isfinite(weight) & (weight >= 0))][0]
        raise ValueError(f"{name} holds {wrong}; finite numbers >= 0 are allowed")
    return weight


def not_finite_error(X: Any, dtype: np.dtype, name: str) -> ValueError | None:
    """The error for the first number of X that is not finite in dtype; None if all are."""
    if X.dtype.kind in "biu":
        return None
    values = X.data.reshape(-1, 1) if is_sparse(X) else X.reshape(len(X), -1) if X.ndim == 1 else X
    step = max(1, CHUNK // max(1, values.shape[1]))
    for begin in range(0, len(values), step):
        rows = values[begin : begin + step]
        with np.errstate(over="ignore"):
            wrong = np.argwhere(~np.isfinite(rows.astype(dtype)))
        if len(wrong):
            row, column = wrong[0]
            where = f"stored value {begin + row}" if is_sparse(X) else f"row {begin + row}, column {column}"
            limit = f"finite numbers up to {np.finfo(dtype).max:.3g}, as {dtype} holds them, are allowed"
            return ValueError(f"{name} holds {rows[row, column]} at {where}; {limit}")
    return None
