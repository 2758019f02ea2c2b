"""What the kernels on tensor cores have in common: the sizes of a fragment (see warp.py), and products in bfloat16."""

from typing import Any

import numpy as np

from fastmlp.cuda.compiling import device
from fastmlp.cuda.ptx import VECTOR_BYTES, mma_bf16

real: Any = np.float32  # of the sums, and of all that is not multiplied
WORD_BYTES, VECTOR_WORDS = 4, VECTOR_BYTES // 4
ZERO, LOWEST = np.float32(0), np.float32(np.finfo(np.float32).min)
ONES = np.uint32(0x3F803F80)  # two ones in bfloat16


@device
def four(array, n):
    """array[n : n + 4], as a fragment."""
    return array[n], array[n + 1], array[n + 2], array[n + 3]


@device
def put_four(array, n, fragment):
    """array[n : n + 4] = fragment."""
    array[n], array[n + 1], array[n + 2], array[n + 3] = fragment[0], fragment[1], fragment[2], fragment[3]


@device
def add(sums, n, a, b, h):
    """Add the product of fragments a and b, b for the h-th of two products, to the sums n ... n + 3."""
    put_four(sums, n, mma_bf16(a, (b[2 * h], b[2 * h + 1]), four(sums, n)))
