"""Functions that users supply (see fastmlp.supplied), compiled to loops over numbers that kernels call by address.

A function is compiled for whole vectors if it is made of what has a meaning for these: arithmetic, whole powers, exp,
tanh, sqrt, abs, min and max. Anything else that Numba compiles, such as an `if`, is called for one number after
another.
"""

import math
import operator

import numba
import numpy as np
from numba import types
from numba.core.errors import NumbaError
from numba.extending import overload

from fastmlp import formulas
from fastmlp.cpu import compiling
from fastmlp.cpu.compiling import INNER, once
from fastmlp.cpu.vector import Vector, lanes, load, numbers_at, panel_width, store
from fastmlp.supplied import Plain


def _of_one(function, meaning):
    """Give a function of Python's the meaning of a formula where its argument is a vector."""

    @overload(function, jit_options=INNER, strict=False)
    def choose(x):
        return meaning if isinstance(x, Vector) else None


def _of_two(function, meaning):
    """The same for two arguments, one of which may be a number."""

    @overload(function, jit_options=INNER, strict=False)
    def choose(x, y):
        return meaning if isinstance(x, Vector) or isinstance(y, Vector) else None


jitted = numba.njit(**INNER)


def smaller(x, y):
    """The smaller of two numbers."""
    return formulas.where(x < y, x, y)


def larger(x, y):
    """The larger of two numbers."""
    return formulas.where(x > y, x, y)


_of_one(math.exp, formulas.exponential)
_of_one(math.tanh, formulas.tanh)
_of_one(math.sqrt, lambda x: formulas.square_root(x))
_of_one(math.fabs, lambda x: abs(x))
_of_two(min, smaller)
_of_two(max, larger)


@overload(operator.pos, jit_options=INNER, strict=False)
def _vector_as_it_is(x):
    return (lambda x: x) if isinstance(x, Vector) else None


@overload(operator.pow, jit_options=INNER, strict=False)
def _whole_power_of_vectors(x, n):
    if not (isinstance(x, Vector) and isinstance(n, types.Integer)):
        return None

    def power(x, n):
        result = x * 0.0 + 1.0
        for _ in range(abs(n)):
            result = result * x
        return result if n >= 0 else 1.0 / result

    return power


def _loop(function, dtype, by_vectors):
    """out = function(x, y) for `rows` rows of `vectors` vectors at addresses, a panel's width apart.

    Numbers are read before those in the same place are written: out may be x or y.
    """

    def of_vectors(x, y, out, vectors, rows):
        X, Y, OUT = numbers_at(x, dtype), numbers_at(y, dtype), numbers_at(out, dtype)
        P, V = panel_width(X), lanes(X)
        for r in range(0, rows * P, P):
            for v in range(r, r + vectors * V, V):
                store(OUT, v, function(load(X, v), load(Y, v)))

    def of_numbers(x, y, out, vectors, rows):
        X, Y, OUT = numbers_at(x, dtype), numbers_at(y, dtype), numbers_at(out, dtype)
        P, V = panel_width(X), lanes(X)
        for r in range(0, rows * P, P):
            for n in range(r, r + vectors * V):
                OUT[n] = function(X[n], Y[n])

    return of_vectors if by_vectors else of_numbers


def _of_first(function):
    """A function of one number as one of two."""

    def of_two(x, y):
        return function(x)

    return jitted(of_two)


@once
def compiled_map(plain: Plain, arguments, dtype):
    """The loop that calls a plain function of one or two numbers of a dtype; where it is one, y may be x.

    Raises
    ------
    ValueError
        When Numba cannot compile the function.
    """
    signature, dtype = types.void(*[types.intp] * 5), np.dtype(dtype)
    for by_vectors in (True, False):
        try:
            kernel = plain.compiled_with(jitted, dtype.type)
            kernel = kernel if arguments == 2 else _of_first(kernel)
            return compiling.pointer(signature, _loop(kernel, dtype, by_vectors), kept=False)
        except (NumbaError, AttributeError, NotImplementedError, TypeError, ValueError) as error:
            problem = error
    told = [line for line in str(problem).splitlines() if line.strip() and not line.startswith(("Failed", "During"))]
    reason = told[0] if told else type(problem).__name__
    if "NRT" in reason:  # Numba's runtime, which would hold objects
        reason = "it makes objects, such as an array or an error's message; numbers alone are allowed"
    raise ValueError(f"Numba cannot compile {plain.function.__name__}: {reason}") from problem
