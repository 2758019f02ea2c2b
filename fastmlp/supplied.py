"""Activation and Loss: pieces of a network that users supply as plain Python functions of numbers."""

import functools
import math
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

STEP = 1e-4  # of the check's central differences, times max(1, |z|)
TOLERANCE = 1e-6  # of a derivative, relative to it where it is larger than 1
JUMP = 1e-2  # what a derivative changes by across a kink, at the least; the step moves a smooth one by less


@dataclass(frozen=True)
class Activation:
    """An activation f of the user's own, for `activation=` and `output=`.

    Parameters
    ----------
    f : function
        f(z), a number for a number: a = f(z) (eq. 7).
    df : function
        f'(z), the derivative of f by z: the last factor of eq. 8 and 9.
    name : str, optional
        What it is called where it is shown.

    Raises
    ------
    ValueError
        When f or df is no plain function of one number, or df is not the derivative of f: it is compared with central
        differences, but where it jumps.

    Notes
    -----
    Both are written in plain Python, with `math` if need be, and compiled by Numba for the CPU and the GPU alike; they
    may use numbers and call functions from around them. Made of arithmetic, whole powers, `math.exp`, `math.tanh`,
    `math.sqrt`, `abs`, `min` and `max` they are compiled for SIMD vectors and run at the speed of the library's own;
    with other functions, or an `if`, for one number after another. Any object with such functions `f`
    and `df` is taken in place of this one.

    Examples
    --------
    >>> import math
    >>> import fastmlp
    >>> def logistic(z):
    ...     return 1 / (1 + math.exp(-z))
    >>> swish = fastmlp.Activation(
    ...     f=lambda z: z / (1 + math.exp(-z)),
    ...     df=lambda z: (1 + math.exp(-z) * (1 + z)) / (1 + math.exp(-z)) ** 2,
    ...     name="swish",
    ... )
    >>> net = fastmlp.Network([2, 8, 1], activation=swish, random_state=0)
    >>> net.activation
    Activation('swish')
    """

    f: Callable[[float], float]
    df: Callable[[float], float]
    name: str | None = None

    def __post_init__(self) -> None:
        _check(self)

    def __repr__(self) -> str:
        return f"Activation({self.name or self.f.__name__!r})"


@dataclass(frozen=True)
class Loss:
    """A loss of the user's own, for `loss=`: the sum of f(a, y) over the outputs.

    Parameters
    ----------
    f : function
        f(a, y), a number for the output a = h_j(x) and its target y.
    df : function
        The derivative of f by a: delta^(L)_j = df(a_j, y_j) f'(z_j), in place of eq. 8.
    name : str, optional
        What it is called where it is shown.

    Raises
    ------
    ValueError
        When f or df is no plain function of two numbers, or df is not the derivative of f by a: it is compared with
        central differences, but where it jumps.

    Notes
    -----
    See `Activation` for how they are compiled. Any output but softmax goes with it, and any finite targets.

    Examples
    --------
    >>> import fastmlp
    >>> asymmetric = fastmlp.Loss(
    ...     f=lambda a, y: max(0.9 * (y - a), 0.1 * (a - y)),
    ...     df=lambda a, y: -0.9 if a < y else 0.1,
    ...     name="0.9 quantile",
    ... )
    >>> fastmlp.Network([2, 8, 1], output="identity", loss=asymmetric).loss
    Loss('0.9 quantile')
    """

    f: Callable[[float, float], float]
    df: Callable[[float, float], float]
    name: str | None = None

    def __post_init__(self) -> None:
        _check(self)

    def __repr__(self) -> str:
        return f"Loss({self.name or self.f.__name__!r})"


def supplied(kind: Any, value: Any) -> Any:
    """An object with functions f and df as an Activation or a Loss, which `kind` names; None where it has none."""
    if isinstance(value, kind):
        return value
    of_other_kind = isinstance(value, (Activation, Loss))
    if of_other_kind or not (callable(getattr(value, "f", None)) and callable(getattr(value, "df", None))):
        return None
    name = getattr(value, "name", None) or getattr(value, "__name__", None)
    return _made(kind, value.f, value.df, name if isinstance(name, str) else None)


@functools.lru_cache(maxsize=256)
def _made(kind: Any, f: Any, df: Any, name: str | None) -> Any:
    return kind(f, df, name)


def described(piece: Any) -> dict[str, Any]:
    """What tells a supplied piece from others, for a file without code: its name, and f and df at some places."""
    places = ((0.4,), (-1.7,), (2.3,)) if isinstance(piece, Activation) else ((0.3, 1.0), (0.8, 0.0), (1.2, 2.5))
    values = []
    for function in (piece.f, piece.df):
        for place in places:
            try:
                values.append(f"{float(function(*place)):.6g}")
            except (ArithmeticError, ValueError):
                values.append("none")
    return {"supplied": type(piece).__name__, "name": piece.name or piece.f.__name__, "values": values}


def plain_function(function: Any) -> Any:
    """A function as Python code that Numba can compile; None where there is none."""
    function = getattr(function, "py_func", function)  # of one that Numba has compiled already
    if isinstance(function, (types.BuiltinFunctionType, np.ufunc)):
        return _called(function)
    return function if isinstance(function, types.FunctionType) else None


def _numpy_of_numbers() -> types.ModuleType:
    """What stands for numpy in a user's function: of one number at a time, `math` has the same, on every device."""
    module = types.ModuleType("numpy_of_numbers")
    vars(module).update({name: value for name, value in vars(math).items() if not name.startswith("_")})
    inverse = {f"arc{name[1:]}": getattr(math, name) for name in ("acos", "asin", "atan", "acosh", "asinh", "atanh")}
    vars(module).update(inverse, abs=math.fabs, absolute=math.fabs, maximum=max, minimum=min)
    return module


NUMPY = _numpy_of_numbers()


def compiled_with(compiler: Callable[[Any], Any], function: Any, real: type) -> Any:
    """What a compiler makes of a plain function, and of the plain functions that it calls by a name from around it.

    Its floating-point literals become of type `real`, lest they make float64 of a float32; numpy's functions are taken
    from `math`.
    """
    code, around = function.__code__, function.__globals__
    constants = tuple(real(c) if type(c) is float else c for c in code.co_consts)

    def prepared(value: Any) -> Any:
        if value is np:
            return NUMPY
        if isinstance(value, np.ufunc):
            return getattr(NUMPY, value.__name__, value)
        plain = isinstance(value, types.FunctionType) and value is not function
        return compiled_with(compiler, value, real) if plain else value

    names = {name: prepared(around[name]) for name in code.co_names if name in around}
    closure = tuple(types.CellType(prepared(cell.cell_contents)) for cell in function.__closure__ or ())
    code = code.replace(co_consts=constants)
    return compiler(types.FunctionType(code, names, function.__name__, function.__defaults__, closure))


@functools.cache
def _called(builtin: Any) -> Any:
    def function(z: Any) -> Any:
        return builtin(z)

    return function


def _places(lowest: float, highest: float, count: int) -> list[float]:
    """Numbers spread over an interval, away from the round ones, at which users' functions have their kinks."""
    return [lowest + (highest - lowest) * ((k + 0.5) / count + 0.1 / count * math.sin(k)) for k in range(count)]


Z = [(z,) for z in _places(-6.1, 6.1, 36)]
A_AND_Y = [(a, y) for a in (*_places(0.03, 0.97, 9), *_places(-3.1, 3.1, 10)) for y in (0.0, 0.4, 1.0, -1.0, 2.5)]


def _check(piece: Any) -> None:
    """Refuse f and df that are no functions of as many numbers as they should be, or do not belong together."""
    of_z = isinstance(piece, Activation)
    what, needed, allowed = ("activation", 1, "f(z) and df(z)") if of_z else ("loss", 2, "f(a, y) and df(a, y)")
    for name in ("f", "df"):
        function = plain_function(getattr(piece, name))
        code = getattr(function, "__code__", None)
        required = 0 if code is None else code.co_argcount - len(function.__defaults__ or ())
        if code is None or not required <= needed <= code.co_argcount or code.co_kwonlyargcount or code.co_flags & 0x0C:
            raise ValueError(
                f"{name} of the {what} is {getattr(piece, name)!r}; plain functions {allowed} are allowed, a method "
                "only as @staticmethod"
            )
    there = 0
    for place, given, difference in slopes_compared(piece):
        there += 1
        if not abs(given - difference) <= TOLERANCE * max(1.0, abs(given)):
            at = ", ".join(f"{x:.4g}" for x in place)
            raise ValueError(
                f"df of the {what} is not the derivative of f: df({at}) is {given:.8g}, and f rises by "
                f"{difference:.8g} there"
            )
    if there == 0:
        places = Z if of_z else A_AND_Y
        raise ValueError(
            f"f and df of the {what} are finite numbers, without a kink, nowhere from {places[0][0]:.3g} to "
            f"{places[-1][0]:.3g}"
        )


def slopes_compared(piece: Any) -> Iterator[tuple[tuple[float, ...], float, float]]:
    """(place, df there, what a central difference of fourth order says): where f is a number and has no kink."""
    for x, *rest in Z if isinstance(piece, Activation) else A_AND_Y:
        h = STEP * max(1.0, abs(x))
        try:
            down_2, down, _, up, up_2 = (float(piece.f(x + n * h, *rest)) for n in (-2, -1, 0, 1, 2))
            slopes = [float(piece.df(x + n * h, *rest)) for n in (-2, -1, 0, 1, 2)]
        except (ArithmeticError, ValueError):
            continue
        difference = (8 * (up - down) - (up_2 - down_2)) / (12 * h)
        finite = all(map(math.isfinite, (difference, *slopes)))
        if finite and max(slopes) - min(slopes) <= JUMP * max(1.0, abs(slopes[2])):
            yield (x, *rest), slopes[2], difference
