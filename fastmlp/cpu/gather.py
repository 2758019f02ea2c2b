"""Rows of X and of the targets, whatever they are kept in, into the panels of a chunk.

A gather kernel is compiled for each kind of array when it is first met; the epoch kernel calls it by address and
never learns what X is. It is called as gather(source, order, first, count, buffer, stride), source being the address
of a SOURCE record: the examples order[first : first + count] (or first, first + 1, ... when order is 0) become the
rows 0 ... count - 1 at `buffer`, whose panels lie `stride` numbers apart. No array is copied whole; a number is
converted when it is read.
"""


import numpy as np
from numba import types

from fastmlp.cpu import compiling
from fastmlp.cpu.compiling import kernel, once
from fastmlp.cpu.vector import (
    broadcast,
    lanes,
    load_numbers,
    load_some_numbers,
    numbers_at,
    panel_width,
    read_number,
    record_at,
    store,
)

SOURCE = np.dtype(
    [
        (name, np.int64)
        for name in (
            "data",  # address of the first number; of the first stored one in CSR
            "row_stride",  # in bytes, as the next
            "column_stride",
            "columns",
            "indices",  # addresses of CSR's arrays, and the bytes of one of their numbers
            "indptr",
            "index_bytes",
        )
    ]
)
_INT32, _INT64 = np.dtype(np.int32), np.dtype(np.int64)


@kernel
def index(address, n, size):
    """The n-th index of `size` bytes at an address."""
    return read_number(address + 8 * n, _INT64) if size == 8 else np.int64(read_number(address + 4 * n, _INT32))


@kernel
def example(order, n):
    """Which example comes n-th."""
    return n if order == 0 else read_number(order + 8 * n, _INT64)


def _dense(number, real):
    """A matrix of any strides whose entries are of dtype `number` (uint16 stands for the bits of a float16)."""
    size = number.itemsize

    def gather_dense(source, order, first, count, buffer, stride):
        B = numbers_at(buffer, real)
        P, V = panel_width(B), lanes(B)
        table = record_at(source, 0, SOURCE)
        data, row_stride, step, columns = table.data, table.row_stride, table.column_stride, table.columns
        whole = columns - columns % V if step == size else 0  # columns that come in whole vectors
        for r in range(count):
            row = data + example(order, first + r) * row_stride
            for j in range(0, whole, V):
                store(B, j // P * stride + r * P + j % P, load_numbers(B, row + j * size, number))
            if step != size:
                for j in range(columns):
                    B[j // P * stride + r * P + j % P] = read_number(row + j * step, number)
            elif whole < columns:
                rest = load_some_numbers(B, row + whole * size, number, columns - whole)
                store(B, whole // P * stride + r * P + whole % P, rest)

    return gather_dense


def _half(real):
    """float16, read as the uint16 of its bits."""
    number = np.dtype(np.uint16)

    def gather_half(source, order, first, count, buffer, stride):
        B = numbers_at(buffer, real)
        P = panel_width(B)
        table = record_at(source, 0, SOURCE)
        data, row_stride, step, columns = table.data, table.row_stride, table.column_stride, table.columns
        for r in range(count):
            row = data + example(order, first + r) * row_stride
            for j in range(columns):
                bits = np.uint32(read_number(row + j * step, number))
                magnitude = np.uint32((bits & np.uint32(0x7FFF)) << np.uint32(13))
                # float32's exponent is biased by 127, float16's by 15; the largest exponent means inf or NaN in both
                value = magnitude.view(np.float32) * np.float32(2.0**112)
                if magnitude >= np.uint32(0x0F800000):
                    value = np.uint32(magnitude | np.uint32(0x7F800000)).view(np.float32)
                B[j // P * stride + r * P + j % P] = -value if bits & np.uint32(0x8000) else value

    return gather_half


def _sparse(number, real):
    """CSR: a row is cleared, then its entries are put in their places (entries at the same place add)."""
    size = number.itemsize

    def gather_sparse(source, order, first, count, buffer, stride):
        B = numbers_at(buffer, real)
        P, V = panel_width(B), lanes(B)
        table = record_at(source, 0, SOURCE)
        data, indices, indptr = table.data, table.indices, table.indptr
        columns, index_bytes = table.columns, table.index_bytes
        zero = broadcast(B, 0.0)
        for r in range(count):
            for j in range(0, columns, V):
                store(B, j // P * stride + r * P + j % P, zero)
            row = example(order, first + r)
            for k in range(index(indptr, row, index_bytes), index(indptr, row + 1, index_bytes)):
                j = index(indices, k, index_bytes)
                B[j // P * stride + r * P + j % P] += read_number(data + k * size, number)

    return gather_sparse


def _labels(number, real):
    """Class labels 0 ... columns - 1 as rows with a one at the label (one-hot)."""

    def gather_labels(source, order, first, count, buffer, stride):
        B = numbers_at(buffer, real)
        P, V = panel_width(B), lanes(B)
        table = record_at(source, 0, SOURCE)
        data, row_stride, columns = table.data, table.row_stride, table.columns
        zero = broadcast(B, 0.0)
        for r in range(count):
            for j in range(0, columns, V):
                store(B, j // P * stride + r * P + j % P, zero)
            j = np.int64(read_number(data + example(order, first + r) * row_stride, number))
            if 0 <= j < columns:  # someone may have changed it since it was checked
                B[j // P * stride + r * P + j % P] = 1

    return gather_labels


@once
def gather_kernel(kind, number, real):
    """The compiled gather for arrays of a kind ("dense", "sparse", "labels") and dtype into buffers of dtype real."""
    if number == np.float16:
        if kind != "dense":
            raise TypeError(f"no gather of {kind} float16")
        function = _half(real)
    else:
        function = {"dense": _dense, "sparse": _sparse, "labels": _labels}[kind](number, real)
    return compiling.pointer(types.void(*[types.intp] * 6), function)


class Source:
    """Where a gather kernel reads an array, a CSR matrix or class labels; keeps what it points to alive."""

    def __init__(self, data, real, classes=0):
        self.data = data
        if hasattr(data, "indptr"):
            width = np.int32 if data.indices.dtype == data.indptr.dtype == np.int32 else np.int64
            indices = np.ascontiguousarray(data.indices, dtype=width)
            indptr = np.ascontiguousarray(data.indptr, dtype=width)
            values = np.ascontiguousarray(data.data)
            kind = "sparse"
            table = (0, 0, data.shape[1], indices.ctypes.data, indptr.ctypes.data, indices.itemsize)
            self.data = indices, indptr, values
        elif data.ndim == 1:
            kind, values = "labels", data
            table = (data.strides[0], 0, classes, 0, 0, 0)
        else:
            kind, values = "dense", data
            table = (*data.strides, data.shape[1], 0, 0, 0)
        # by name: a dtype that was unpickled is another object, and would be compiled for once more
        number = np.dtype(np.uint8 if values.dtype == bool else values.dtype.str)
        self.gather = gather_kernel(kind, number, np.dtype(real)).address
        self.table = np.array([(values.ctypes.data, *table)], SOURCE)
        self.address = self.table.ctypes.data
