"""Sums over the threads of a block in one fixed order, and the largest of many numbers."""

import numpy as np
from numba import cuda, types

from fastmlp.cuda.compiling import configured, device, kernel
from fastmlp.cuda.ptx import SIMULATED, thread

REDUCERS = 4 if SIMULATED else 256  # threads of a block that reduces an array
SUMMERS = 4 if SIMULATED else 16  # threads that sum what the block's have; as many as a block has at least


@device
def block_sum(partial, value):
    """The sum of all threads' values (float64), in a fixed order; every thread of the block calls it and gets it.

    The first SUMMERS threads add up those of each SUMMERS-th thread, and every thread adds up these. `partial` is
    shared memory for a number a thread, which nobody needs any more once all threads are here.
    """
    t = thread()
    cuda.syncthreads()
    partial[t] = value
    cuda.syncthreads()
    if t < SUMMERS:
        other = t + SUMMERS
        while other < cuda.blockDim.x:  # half of the instructions that a range takes
            value += partial[other]
            other += SUMMERS
        partial[t] = value
    cuda.syncthreads()
    total = partial[0]
    for n in range(1, SUMMERS):
        total += partial[n]
    return total


@kernel(REDUCERS, 1)
def _largest_differences(now, then, result):
    """The largest |now - then| that each block meets, (blocks,) of float64; every entry is read by one thread."""
    largest = cuda.shared.array(0, types.float64)
    found = 0.0
    for n in range(cuda.grid(1), now.size, cuda.gridsize(1)):
        found = max(found, abs(float(now[n]) - float(then[n])))
    largest[cuda.threadIdx.x] = found
    cuda.syncthreads()
    if cuda.threadIdx.x == 0:
        for t in range(1, cuda.blockDim.x):
            found = max(found, largest[t])
        result[cuda.blockIdx.x] = found


def largest_difference(now, then) -> float:
    """The largest |now - then| of two arrays on the device."""
    blocks = min(64, -(-now.size // REDUCERS))
    result = cuda.device_array(blocks, np.float64)
    configured(_largest_differences, blocks, REDUCERS, 0, 8 * REDUCERS)(now, then, result)
    return float(result.copy_to_host().max())
