"""Counters in the device's memory, by which the blocks of a cooperative launch wait for one another."""

from numba import cuda

from fastmlp.cuda.compiling import device
from fastmlp.cuda.layout import BUFFERS
from fastmlp.cuda.ptx import arrive, arrived, thread
from fastmlp.cuda.work import BARRIERS

# Blocks at the barrier; the first chunk of the graph that runs; tasks of a gather done, for each buffer of inputs. What
# many wait for at once has a line of the cache, of 32 counters, to itself.
ARRIVALS, BASE = range(2)
LINE = 32
GATHERED, COUNTERS = LINE, LINE * (1 + BUFFERS)
MASK = 0xFFFFFFFF


@device
def wait_for(counters, place, count):
    """Wait until a counter, of 32 bits that begin anew, has come to `count`; what was written before it did is seen."""
    while 0 < (count - arrived(counters, place)) & MASK < MASK // 2:
        pass


@device
def barrier(counters, chunk):
    """Wait until all blocks have come here as often as this one; what they wrote before is seen behind it."""
    cuda.syncthreads()
    if thread() == 0:
        chunk[BARRIERS] += 1
        arrive(counters, ARRIVALS)
        wait_for(counters, ARRIVALS, chunk[BARRIERS] * cuda.gridDim.x)
    cuda.syncthreads()
