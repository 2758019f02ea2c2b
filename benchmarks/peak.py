"""How many floating-point operations a second can this machine's cores do at most?

    python benchmarks/peak.py [--threads 2] [--dtype float32]

The ceiling that every other figure is a share of: independent chains of fused multiply-adds that never leave the
vector registers, on one core and on several at once, the best of several tries.
"""

import argparse
import functools
import json
import threading
import time

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

from machine import cores

CHAINS = 12  # hides the latency of two 5-cycle FMA pipes, and leaves registers of 16 for the two operands


def vector_bits():
    """Width of the host's widest vector registers."""
    features = llvmlite.binding.get_host_cpu_features()
    return 512 if features.get("avx512f") else 256 if features.get("avx") else 128


@functools.cache
def compile_chains(dtype):
    """Compile `chains(steps, x, y)`, which sets acc = acc * x + y `steps` times in `CHAINS` vectors at once.

    Returns
    -------
    chains : callable
        Releases the GIL; returns the sum of all lanes, so that nothing is optimised away.
    flops : int
        Floating-point operations of one step.
    """
    numba_type, llvm_type = {
        "float32": (numba.float32, ir.FloatType()),
        "float64": (numba.float64, ir.DoubleType()),
    }[dtype]
    lanes = vector_bits() // numba_type.bitwidth
    vector = ir.VectorType(llvm_type, lanes)

    @intrinsic
    def fma_chains(typing_context, steps, x, y):
        def splat(builder, scalar):
            first = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
            zeros = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
            return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), zeros)

        def generate(context, builder, signature, arguments):
            steps, x, y = arguments
            x, y = splat(builder, x), splat(builder, y)
            bits = numba_type.bitwidth
            fma_type = ir.FunctionType(vector, [vector] * 3)
            fma = cgutils.get_or_insert_function(builder.module, fma_type, f"llvm.fmuladd.v{lanes}f{bits}")
            accumulators = [cgutils.alloca_once(builder, vector) for _ in range(CHAINS)]
            for c, acc in enumerate(accumulators):  # distinct starts, lest equal chains be merged
                builder.store(ir.Constant(vector, [float(c)] * lanes), acc)
            with cgutils.for_range(builder, steps):
                for acc in accumulators:
                    builder.store(builder.call(fma, [builder.load(acc), x, y]), acc)
            total = functools.reduce(builder.fadd, [builder.load(acc) for acc in accumulators])
            each = [builder.extract_element(total, ir.Constant(ir.IntType(32), lane)) for lane in range(lanes)]
            return functools.reduce(builder.fadd, each)

        return numba_type(numba.intp, numba_type, numba_type), generate

    @numba.njit(nogil=True)
    def chains(steps, x, y):
        return fma_chains(steps, x, y)

    return chains, 2 * lanes * CHAINS


def peak(threads, dtype="float32", tries=10, seconds=0.02):
    """FMA peak of `threads` cores working at once, in GFLOP/s, the best of `tries` runs of about `seconds`."""
    chains, flops = compile_chains(dtype)
    x, y = np.dtype(dtype).type(0.5), np.dtype(dtype).type(1)
    chains(1, x, y)
    steps = 1 << 20
    start = time.perf_counter()
    chains(steps, x, y)
    steps = max(1, int(steps * seconds / (time.perf_counter() - start)))
    best = 0.0
    for _ in range(tries):
        barrier = threading.Barrier(threads)
        spans = [(0.0, 0.0)] * threads

        def work(thread, barrier=barrier, spans=spans):
            barrier.wait()
            start = time.perf_counter()
            chains(steps, x, y)
            spans[thread] = start, time.perf_counter()

        workers = [threading.Thread(target=work, args=(thread,)) for thread in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        elapsed = max(end for _, end in spans) - min(start for start, _ in spans)
        best = max(best, threads * steps * flops / elapsed / 1e9)
    return best


def main():
    parser = argparse.ArgumentParser(description="Measure the FMA peak of one core and of several at once.")
    parser.add_argument("--threads", type=int, default=cores(), help="cores at once (default: all)")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    args = parser.parse_args()
    figures = {str(threads): peak(threads, args.dtype) for threads in sorted({1, args.threads})}
    for threads, figure in figures.items():
        print(f"{threads} thread(s): {figure:.1f} GFLOP/s in {args.dtype}, {vector_bits()}-bit vectors")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
