"""How device functions and kernels are compiled, and the formulas as device functions of one dtype."""

import functools
import types
import warnings
from typing import Any

import numpy as np
from numba import cuda

from fastmlp import formulas
from fastmlp.cuda import ptx
from fastmlp.cuda.ptx import SIMULATED
from fastmlp.supplied import Plain


def device(function):
    """Compile a function that kernels call: it becomes part of each of them."""
    if not SIMULATED:
        return cuda.jit(device=True, forceinline=True)(function)
    # the simulator looks through all names around a function at every call, to find the module cuda
    return cuda.jit(device=True)(function) if "cuda" in function.__code__.co_names else function


def kernel(threads: int, blocks: int):
    """Compile a kernel for blocks of so many threads, so many of which are to fit on a multiprocessor at a time."""

    def decorate(function):
        return cuda.jit(function) if SIMULATED else cuda.jit(launch_bounds=(threads, blocks))(function)

    return decorate


def configured(kernel: Any, grid: int, threads: int, stream: Any, shared_bytes: int) -> Any:
    """A kernel configured to be launched, without the advice that a grid of few blocks leaves a device idle."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Grid size")
        return kernel[grid, threads, stream, shared_bytes]


def _in_precision(function: Any, real: type, names: dict[str, Any]) -> types.FunctionType:
    """A function whose literals are of type `real`, or 32-bit integers, and which finds other functions in `names`.

    To CUDA Python a literal is a float64 or an int64, and what it meets becomes one, too.
    """
    of = {float: real, int: np.uint32}
    constants = tuple(of[type(c)](c) if type(c) in of else c for c in function.__code__.co_consts)
    return types.FunctionType(function.__code__.replace(co_consts=constants), names, function.__name__)


@functools.cache
def mathematics(real: type) -> types.SimpleNamespace:
    """The functions of formulas.py for numbers of type `real` (numpy.float32 or numpy.float64)."""
    if SIMULATED:
        return types.SimpleNamespace(**vars(formulas))
    double = real is np.float64

    @device
    def where(condition, x, y):
        return x if condition else y

    @device
    def is_double(x):
        return double

    @device
    def low_bits(x):
        return x & 0xFFFFFFFF

    half = real(0.5)

    @device
    def times_power_of_two(x, n):
        # in two steps, since 2^n itself may be subnormal
        first = ptx.rounded_product(n, half)
        return x * ptx.power_of_two(first) * ptx.power_of_two(n - first)

    names: dict[str, Any] = {
        "where": where,
        "is_double": is_double,
        "low_bits": low_bits,
        "times_power_of_two": times_power_of_two,
        "multiply_add": ptx.fused_multiply_add,
        "rounded_product": ptx.rounded_product,
        "square_root": ptx.square_root,
        "reciprocal_estimate": ptx.reciprocal_estimate,
        "abs": abs,
        "LOG2_E": real(formulas.LOG2_E),
        "LN2_HIGH": real(formulas.LN2_HIGH),
        "LN2_LOW": real(formulas.LN2_LOW),
    }
    for function in formulas.VECTORIZED:
        names[function.__name__] = device(_in_precision(function, real, names))
    return types.SimpleNamespace(**names)


@functools.cache
def of_users(real: type, plain: Plain, arguments: int) -> Any:
    """A function of one or two numbers that a user has supplied, as a device function; its result is a `real`."""
    inner = plain.compiled_with(device, real)

    @device
    def of_one(z):
        return real(inner(z))

    @device
    def of_two(a, y):
        return real(inner(a, y))

    return of_one if arguments == 1 else of_two
