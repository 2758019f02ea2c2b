"""What products read, where that is not the float32 arrays themselves: bfloat16, two in a word of 32 bits.

A place in such an array is counted in words, an entry behind it in numbers. What writes an array that products read
writes it with `put`, or a second time with `keep`; so no pass only converts.
"""

import functools
from typing import Any

from fastmlp.cuda.compiling import device
from fastmlp.cuda.ptx import number_of, pack_bf16, store_bf16


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
def make_put_vector(per_word: int, count: int) -> Any:
    """put_vector(array, place, n, values, v): values[v : v + count] as the numbers from the n-th on behind a place.

    n is even in bfloat16.
    """

    @device
    def put_vector(array, place, n, values, v):
        if per_word == 1:
            for k in range(count):
                array[place + n + k] = values[v + k]
        else:
            for k in range(0, count, 2):
                array[place + (n + k) // 2] = number_of(pack_bf16(values[v + k], values[v + k + 1]))

    return put_vector


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
