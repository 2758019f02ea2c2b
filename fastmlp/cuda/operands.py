"""What products read, where that is not the float32 arrays themselves: bfloat16, two in a word of 32 bits.

A place in such an array is counted in words, an entry behind it in numbers. What writes an array that products read
writes it with `put`, or a second time with `keep`; so no pass only converts.
"""

import functools
from typing import Any

from fastmlp.cuda.compiling import device
from fastmlp.cuda.ptx import store_bf16


@functools.cache
def make_put(per_word: int) -> Any:
    """put(array, place, n, x): x as the n-th number behind a place."""
    if per_word == 1:

        @device
        def put(array, place, n, x):
            array[place + n] = x

        return put

    @device
    def put_bf16(array, place, n, x):
        store_bf16(array, 2 * place + n, x)

    return put_bf16


@functools.cache
def make_keep(per_word: int) -> Any:
    """keep(array, place, n, x, wanted): `put` behind a write of the float32, where products do not read that."""
    if per_word == 1:

        @device
        def keep(array, place, n, x, wanted):
            """Nothing to do."""

        return keep

    @device
    def keep_bf16(array, place, n, x, wanted):
        if wanted:
            store_bf16(array, 2 * place + n, x)

    return keep_bf16
