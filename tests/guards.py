"""Memory that shows when a kernel reads or writes beyond a buffer.

Every buffer lies between zones of poison: NaN as a float16, float32 or float64, absurd as an index. A write changes a
zone, which `Guards.check` sees; a read leaks a NaN into the results. With `pages` a buffer also ends where a page
begins that cannot be touched ("end"), or begins where one ends ("begin"): what goes beyond kills the process then, be
it only a read whose number is not used.
"""

import contextlib
import ctypes
import functools
import mmap
import sys
import types
import weakref
from unittest import mock

import numpy as np
import scipy.sparse

from fastmlp import inputs, streaming
from fastmlp.cpu import gather, layout, prediction, trainer

WORD = np.frombuffer(0x7FFB7DAD7FC07EAD.to_bytes(8, sys.byteorder), np.uint8)
MANY_WORDS = np.tile(WORD, 1 << 15)
ZONE = 1 << 16  # bytes; more than a panel of the largest chunk, so that a slip of a whole panel is seen, too


class Guards:
    """Allocates buffers between guards.

    Parameters
    ----------
    pages : {None, "begin", "end"}
        Which side of each buffer touches a page that cannot be touched (with POSIX's mprotect).
    """

    def __init__(self, pages=None):
        self.pages = pages
        self._new, self._old = [], []

    def allocate(self, size):
        """`size` bytes of poison between guards."""
        if self.pages is None:
            memory = np.empty(size + 2 * ZONE, np.uint8)
            spans = 0, ZONE, ZONE + size, len(memory)
        else:
            page, room = mmap.PAGESIZE, -(-max(size, 1) // mmap.PAGESIZE) * mmap.PAGESIZE
            memory = np.frombuffer(mmap.mmap(-1, room + 2 * page), np.uint8)
            for edge in (0, page + room):
                forbid(memory.ctypes.data + edge, page)
            begin = page + (room - size if self.pages == "end" else 0)
            spans = page, begin, begin + size, page + room
        zones = memory[spans[0] : spans[3]]
        zones[...] = poison(zones)
        self._new.append((memory, spans))
        return memory[spans[1] : spans[2]]

    def empty(self, shape, dtype=np.float64):
        """np.empty; what is not written is poison."""
        shape, dtype = tuple(np.atleast_1d(shape)), np.dtype(dtype)
        return np.ndarray(shape, dtype, self.allocate(int(np.prod(shape)) * dtype.itemsize))

    def zeros(self, shape, dtype=np.float64):
        """np.zeros."""
        array = self.empty(shape, dtype)
        array.view(np.uint8)[...] = 0
        return array

    def place(self, array):
        """The same array, with the same strides, between guards; in the gaps that its strides leave there is poison."""
        if scipy.sparse.issparse(array):
            placed = array.copy()
            placed.data, placed.indices, placed.indptr = map(self.place, (array.data, array.indices, array.indptr))
            return placed
        if array.size == 0:
            return array
        low, high = np.lib.array_utils.byte_bounds(array)
        buffer = self.allocate(high - low)
        placed = np.ndarray(array.shape, array.dtype, buffer, array.ctypes.data - low, array.strides)
        placed[...] = array
        return placed

    def check(self):
        """Assert that nothing was written beyond a buffer."""
        living = [(memory, spans) for reference, spans in self._old if (memory := reference()) is not None]
        for memory, spans in living + self._new:
            for zone, where in zip((memory[slice(*spans[:2])], memory[slice(*spans[2:])]), ("before", "behind")):
                assert np.array_equal(zone, poison(zone)), f"memory {where} a buffer was written"
        self._old = [(weakref.ref(memory), spans) for memory, spans in living + self._new]
        self._new = []

    @contextlib.contextmanager
    def around_kernels(self):
        """Let all buffers that the package makes for kernels come from here."""
        numpy = types.ModuleType("numpy")  # a module, so that Numba still compiles functions that name it
        vars(numpy).update(vars(np))
        numpy.empty, numpy.zeros = self.empty, self.zeros
        numpy.empty_like = lambda array: self.empty(array.shape, array.dtype)
        numpy.array = lambda *arguments: self.place(np.array(*arguments))
        numpy.arange = lambda *arguments: self.place(np.arange(*arguments))

        def tables(*arguments):
            plan = plain_layout(*arguments)
            return plan._replace(layers=self.place(plan.layers))

        plain_layout, plain_step, plain_weight = layout.layout, trainer.make_step, inputs.as_sample_weight
        patches = [
            *(mock.patch.object(module, "np", numpy) for module in (gather, prediction, streaming, trainer)),
            *(mock.patch.object(module, "layout", tables) for module in (layout, prediction)),
            mock.patch.object(trainer, "aligned", self.zeros),
            mock.patch.object(trainer, "make_step", lambda *a, **kw: self.place(plain_step(*a, **kw))),
            mock.patch.object(inputs, "as_sample_weight", lambda *a: self.place_or_none(plain_weight(*a))),
        ]
        with contextlib.ExitStack() as stack:
            for patch in patches:
                stack.enter_context(patch)
            yield self

    def place_or_none(self, array):
        return None if array is None else self.place(array)


def poison(memory):
    """The bytes of poison for a place in memory: its words begin at multiples of 8."""
    phase = memory.__array_interface__["data"][0] % 8
    words = MANY_WORDS if phase + len(memory) <= len(MANY_WORDS) else np.tile(WORD, len(memory) // 8 + 2)
    return words[phase : phase + len(memory)]


@functools.cache
def c_library():
    return ctypes.CDLL(None)


def forbid(address, size):
    """Let nothing be read or written there any more."""
    assert c_library().mprotect(ctypes.c_void_p(address), ctypes.c_size_t(size), 0) == 0
