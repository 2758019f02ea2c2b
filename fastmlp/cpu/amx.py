"""The matrix registers of Intel's AMX, as LLVM IR that vector.py puts together: products of blocks of bfloat16 pairs.

A register holds ROWS rows of 64 bytes: of a left factor so many words, pairs of a sum's numbers, a row; of a right
factor the rows of a panel of words, a vector wide; of sums so many rows of one vector. One instruction adds the product
of two registers to a third, STEP words of the sum at once.

The registers are named by number, sums first, then two for either factor: they are in use for one tile at a time. A
pass sets their shape, the same for all, once: that takes longer than a dozen products.
"""

import ctypes
import functools
import sys

from llvmlite import ir
from numba.core import cgutils

ROWS = 16  # of a register
STEP = 16  # words of a sum in a product, two numbers each
ROW_BYTES = 64

LEFT, RIGHT, REGISTERS = 4, 6, 8  # the first register of either factor, behind those of sums; how many there are
PALETTE = 1

REQUIRE_STATE, TILE_DATA = 0x1023, 18  # of Linux's arch_prctl: let this process use the registers
ARCH_PRCTL = 158  # the number of that call on x86-64


@functools.cache
def is_granted() -> bool:
    """Whether the system lets this process use the registers: Linux must be asked; elsewhere nobody has tried.

    It is the whole process's, and its children's, for good; Linux refuses where a thread has a stack for signals that
    is too small for the registers, and later refuses such stacks.
    """
    if sys.platform != "linux":
        return False
    return ctypes.CDLL(None).syscall(ARCH_PRCTL, REQUIRE_STATE, TILE_DATA) == 0


_LONG, _BYTE, _NOTHING = ir.IntType(64), ir.IntType(8), ir.VoidType()


def _call(builder, name, *args):
    signature = ir.FunctionType(_NOTHING, [arg.type for arg in args])
    builder.call(cgutils.get_or_insert_function(builder.module, signature, f"llvm.x86.{name}"), args)


def _place(builder, pointer):
    return builder.bitcast(pointer, _BYTE.as_pointer())


def configure(builder):
    """Give all registers their shape, for the calling thread."""
    shape = bytearray(64)
    shape[0] = PALETTE
    for register in range(REGISTERS):
        shape[16 + 2 * register], shape[48 + register] = ROW_BYTES, ROWS
    constant = cgutils.global_constant(builder.module, "amx_shape", cgutils.make_bytearray(shape))
    _call(builder, "ldtilecfg", _place(builder, constant))


def release(builder):
    """Leave the registers: a thread that has them in use is slower to put aside."""
    _call(builder, "tilerelease")


def zero(builder, register):
    """Clear a register."""
    _call(builder, "tilezero", _BYTE(register))


def load(builder, register, pointer, stride):
    """The rows at a pointer, `stride` bytes apart, into a register."""
    _call(builder, "tileloadd64", _BYTE(register), _place(builder, pointer), stride)


def store(builder, register, pointer, stride):
    """Write the rows of a register to a pointer, `stride` bytes apart."""
    _call(builder, "tilestored64", _BYTE(register), _place(builder, pointer), _LONG(stride))


def add_product(builder, sums, left, right):
    """Add the product of two registers to a third."""
    _call(builder, "tdpbf16ps", _BYTE(sums), _BYTE(left), _BYTE(right))
