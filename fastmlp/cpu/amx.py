"""The matrix registers of Intel's AMX, as LLVM IR that vector.py puts together: products of blocks of bfloat16 pairs.

A register holds ROWS rows of 64 bytes: of a left factor so many words, pairs of a sum's numbers, a row; of a right
factor the rows of a panel of words, a vector wide; of sums so many rows of one vector. One instruction adds the product
of two registers to a third, STEP words of the sum at once. LLVM assigns the registers and sets their shape, which is
the same for all.
"""

import ctypes
import functools
import sys

from llvmlite import ir
from numba.core import cgutils

ROWS = 16  # of a register
STEP = 16  # words of a sum in a product, two numbers each
ROW_BYTES = 64

REQUIRE_STATE, TILE_DATA = 0x1023, 18  # of Linux's arch_prctl: let this process use the registers
ARCH_PRCTL = 158  # the number of that call on x86-64


@functools.cache
def is_granted() -> bool:
    """Whether the system lets this process use the registers: Linux must be asked; elsewhere nobody has tried."""
    if sys.platform != "linux":
        return False
    return ctypes.CDLL(None).syscall(ARCH_PRCTL, REQUIRE_STATE, TILE_DATA) == 0


class _Register(ir.types.Type):
    """LLVM's type of a register's contents; llvmlite has no name for it."""

    def _to_string(self):
        return "x86_amx"

    def __eq__(self, other):
        return isinstance(other, _Register)

    def __hash__(self):
        return hash(_Register)


# A register's contents as a value like others, which may be kept in variables
CONTENTS = ir.VectorType(ir.IntType(32), ROWS * ROW_BYTES // 4)

_SHORT, _LONG, _BYTES = ir.IntType(16), ir.IntType(64), ir.IntType(8).as_pointer()
_SHAPE = ir.Constant(_SHORT, ROWS), ir.Constant(_SHORT, ROW_BYTES)


def _call(builder, name, result, *args, attributes=()):
    signature = ir.FunctionType(result, [arg.type for arg in args])
    function = cgutils.get_or_insert_function(builder.module, signature, f"llvm.x86.{name}")
    return builder.call(function, args, attrs=attributes)


def load(builder, place, stride):
    """A register with the rows at `place`, a pointer, which lie `stride` bytes apart."""
    return _call(builder, "tileloadd64.internal", _Register(), *_SHAPE, builder.bitcast(place, _BYTES), stride)


def store(builder, contents, place, stride):
    """Write the rows of a register's contents to `place`, `stride` bytes apart."""
    place, stride = builder.bitcast(place, _BYTES), ir.Constant(_LONG, stride)
    register = _call(builder, "cast.vector.to.tile.v256i32", _Register(), contents)
    _call(builder, "tilestored64.internal", ir.VoidType(), *_SHAPE, place, stride, register)


def add_product(builder, contents, left, right):
    """The sums in a register's contents, and the product of two registers.

    "Convergent" keeps LLVM from doing steps of a loop apart from it: registers would have to be copied, which takes
    memory.
    """
    sums = _call(builder, "cast.vector.to.tile.v256i32", _Register(), contents)
    factors = *_SHAPE, _SHAPE[1], sums, left, right
    sums = _call(builder, "tdpbf16ps.internal", _Register(), *factors, attributes=("convergent",))
    return _call(builder, "cast.tile.to.vector.v256i32", CONTENTS, sums)
