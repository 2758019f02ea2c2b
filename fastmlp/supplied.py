"""Activation and Loss: pieces of a network that users supply as plain Python functions of numbers."""

import dis
import functools
import math
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

STEP = 1e-4  # of the check's central differences, times max(1, |z|)
TOLERANCE = 1e-6  # of a derivative, relative to it where it is larger than 1
ROUNDING = 1e-15  # of f, which a difference divides by the step
JUMP = 1e-2  # what a derivative changes by across a kink, at the least; the step moves a smooth one by less


class _Piece:
    """What Activation and Loss share: equal are those whose functions are, with all that they take from around them."""

    f: Callable[..., float]
    df: Callable[..., float]
    name: str | None
    plain_f: "Plain"
    plain_df: "Plain"

    def __post_init__(self) -> None:
        if not (self.name is None or isinstance(self.name, str)):
            raise ValueError(f"name is {self.name!r}; None or a string is allowed")
        # as they are now: what is trained with them does not change with what is around them
        object.__setattr__(self, "plain_f", _plain(self, "f"))
        object.__setattr__(self, "plain_df", _plain(self, "df"))
        _check(self)

    def _identity(self) -> tuple[Any, ...]:
        return type(self), self.plain_f, self.plain_df, self.name

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, _Piece) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def __getstate__(self) -> dict[str, Any]:
        return {"f": self.f, "df": self.df, "name": self.name}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, value)
        self.__post_init__()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name or getattr(self.f, '__name__', 'f')!r})"


@dataclass(frozen=True, eq=False, repr=False)
class Activation(_Piece):
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
    may use numbers and call functions from around them, as these are when the Activation is made. Made of arithmetic,
    whole powers, `math.exp`, `math.tanh`, `math.sqrt`, `abs`, `min` and `max` they are compiled for SIMD vectors and
    run at the speed of the library's own; with other functions, or an `if`, for one number after another. Numbers are
    of the network's dtype: in float32 e^z is infinite beyond z = 88, and 1 - 1e-12 is 1. On a GPU write 1.0 for 1, lest
    float32 becomes float64. Any object with such functions `f` and `df` is taken in place of this one.

    Examples
    --------
    >>> import math
    >>> import fastmlp
    >>> def logistic(z):
    ...     return 1 / (1 + math.exp(-z))
    >>> swish = fastmlp.Activation(
    ...     f=lambda z: z * logistic(z), df=lambda z: logistic(z) * (1 + z * (1 - logistic(z))), name="swish"
    ... )
    >>> net = fastmlp.Network([2, 8, 1], activation=swish, random_state=0)
    >>> net.activation
    Activation('swish')
    """

    f: Callable[[float], float]
    df: Callable[[float], float]
    name: str | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Loss(_Piece):
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
    See `Activation` for how they are compiled. Any output but softmax goes with it, and any finite targets. df is
    compared with differences of f for a from about -3 to 3, wherever f is a number: let f be NaN, or raise, where it is
    not defined.

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


def supplied(kind: Any, value: Any) -> Any:
    """An object with functions f and df as an Activation or a Loss, which `kind` names; None where it has none."""
    if isinstance(value, kind):
        return value
    if isinstance(value, _Piece) or not (callable(getattr(value, "f", None)) and callable(getattr(value, "df", None))):
        return None
    name = getattr(value, "name", None) or getattr(value, "__name__", None)
    try:
        return _made(kind, Plain(value.f), Plain(value.df), name if isinstance(name, str) else None)
    except TypeError:  # they are no plain functions, which is told when they are checked
        return kind(value.f, value.df)


@functools.lru_cache(maxsize=256)
def _made(kind: Any, f: "Plain", df: "Plain", name: str | None) -> Any:
    return kind(f.given, df.given, name)


def described(piece: Any) -> dict[str, Any]:
    """What tells a supplied piece from others, for a file without code: its name, and f and df at some places."""
    numbers = (0.4, -1.7, 2.3, 0.06, -0.05, 5.2, -6.1, 41.0)
    targets = (1.0, 0.0, 2.5, 0.3, -1.0, 4.0, -7.3, 40.0)
    places = [(z,) for z in numbers] if isinstance(piece, Activation) else list(zip(numbers, targets))
    functions = [plain.compiled_with(_in_python, float) for plain in (piece.plain_f, piece.plain_df)]
    values = [f"{value(function, *place):.6g}" for function in functions for place in places]
    return {"supplied": type(piece).__name__, "name": piece.name or piece.f.__name__, "values": values}


def _in_python(function: Any) -> Any:
    """What stands for a compiler where there is none."""
    return function


def value(function: Any, *x: float) -> float:
    """What a function of numbers gives as a float; NaN where it has no value, or a complex one."""
    try:
        with np.errstate(all="ignore"):
            found = function(*x)
            return math.nan if isinstance(found, complex) else float(found)
    except (ArithmeticError, ValueError):
        return math.nan
    except TypeError as error:
        at = ", ".join(f"{number:.4g}" for number in x)
        name = getattr(function, "__name__", "it")
        raise ValueError(f"{name}({at}) gives no number ({error}); functions of numbers are allowed") from None


# ---- plain functions, and what they take from around them ----------------------------------------------------------


@functools.cache
def _names_in(code: types.CodeType) -> frozenset[str]:
    """The names that code, and the code within it, looks for around it."""
    found = {i.argval for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found |= _names_in(constant)
    return frozenset(found)


class Plain:
    """A plain function as it is at a moment: with the numbers and functions around it, which may change later.

    Two are equal that compute the same, because their code and all that is around it are equal. What is no plain
    function is a TypeError.

    Attributes
    ----------
    given : callable
        What it was made of.
    function : function
        The plain function.
    around : dict
        What it finds by a name, or in its closure: values, and of plain functions Plain again.
    """

    def __init__(self, given: Any, within: tuple[Any, ...] = ()):
        found = getattr(given, "py_func", given)  # of one that Numba has compiled already
        if isinstance(found, (types.BuiltinFunctionType, np.ufunc)):
            found = _called(found)
        if not isinstance(found, types.FunctionType):
            raise TypeError("no plain function")
        if found in within:
            raise ValueError(f"{found.__name__} calls itself; functions without recursion are allowed")
        self.given, self.function = given, found
        inner = (*within, found)
        cells = dict(zip(found.__code__.co_freevars, (_content(cell) for cell in found.__closure__ or ())))
        names = {n: found.__globals__[n] for n in sorted(_names_in(found.__code__)) if n in found.__globals__}
        self.around = {
            name: Plain(v, inner) if isinstance(v, types.FunctionType) else v for name, v in {**names, **cells}.items()
        }
        defaults = found.__defaults__, tuple(sorted((found.__kwdefaults__ or {}).items()))
        self._key = found.__code__, repr(defaults), tuple((name, _key_of(v)) for name, v in self.around.items())

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Plain) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def compiled_with(self, compiler: Callable[[Any], Any], real: type) -> Any:
        """What a compiler makes of it, and of the plain functions that it calls.

        Floating-point numbers, literal and from around it, become of type `real`, lest they make float64 of a float32;
        numpy's functions of a number are math's, or made of them.
        """
        code = self.function.__code__

        def prepared(value: Any) -> Any:
            if isinstance(value, Plain):
                return value.compiled_with(compiler, real)
            if isinstance(value, float):
                return _as_real(real, value)
            if value is np or value is math:
                return _module_of_numbers(compiler, real)
            if isinstance(value, np.ufunc):
                return getattr(_module_of_numbers(compiler, real), value.__name__, value)
            return value

        names = {name: prepared(value) for name, value in self.around.items()}
        if "float" in _names_in(code) and "float" not in names:
            names["float"] = Plain(_float).compiled_with(compiler, real)
        closure = tuple(types.CellType(names[name]) for name in code.co_freevars)
        code = code.replace(co_consts=tuple(_as_real(real, c) if type(c) is float else c for c in code.co_consts))
        defaults = tuple(prepared(value) for value in self.function.__defaults__ or ())
        made = types.FunctionType(code, names, self.function.__name__, defaults, closure)
        made.__kwdefaults__ = {name: prepared(v) for name, v in (self.function.__kwdefaults__ or {}).items()}
        return compiler(made)


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it is empty
        return None


def _key_of(value: Any) -> Any:
    """Something to compare a value by that may be changed in place, or has no hash."""
    if isinstance(value, (Plain, types.ModuleType, types.BuiltinFunctionType, type, np.ufunc)):
        return value
    return type(value), repr(value)


def _as_real(real: type, number: float) -> Any:
    with np.errstate(all="ignore"):
        return real(number)


@functools.cache
def _called(builtin: Any) -> Any:
    def function(z: Any) -> Any:
        return builtin(z)

    return function


# What numpy has and math has not, of one number.


def _float(x: Any) -> Any:
    return x * 1.0


def _clip(x: Any, lowest: Any, highest: Any) -> Any:
    return min(max(x, lowest), highest)


def _sign(x: Any) -> Any:
    return 1.0 if x > 0 else -1.0 if x < 0 else x * 1.0


def _where(condition: Any, x: Any, y: Any) -> Any:
    return x if condition else y


def _square(x: Any) -> Any:
    return x * x


def _heaviside(x: Any, at_zero: Any) -> Any:
    return 1.0 if x > 0 else 0.0 if x < 0 else at_zero


def _reciprocal(x: Any) -> Any:
    return 1.0 / x


def _negative(x: Any) -> Any:
    return -x


def _power(x: Any, n: Any) -> Any:
    return x**n


OF_NUMPY = {
    "clip": _clip, "sign": _sign, "where": _where, "square": _square, "heaviside": _heaviside, "power": _power,
    "reciprocal": _reciprocal, "negative": _negative, "float32": _float, "float64": _float,
}  # fmt: skip


@functools.cache
def _module_of_numbers(compiler: Any, real: type) -> types.ModuleType:
    """What stands for math and for numpy in a user's function: math's functions, and some of numpy's, on any device."""
    module = types.ModuleType("functions of a number")
    for name, found in vars(math).items():
        if not name.startswith("_"):
            setattr(module, name, _as_real(real, found) if isinstance(found, float) else found)
    for name in ("acos", "asin", "atan", "acosh", "asinh", "atanh"):
        setattr(module, f"arc{name[1:]}", getattr(math, name))
    vars(module).update(abs=math.fabs, absolute=math.fabs, maximum=max, minimum=min)
    for name, function in OF_NUMPY.items():
        setattr(module, name, Plain(function).compiled_with(compiler, real))
    return module


# ---- the check -----------------------------------------------------------------------------------------------------


def _plain(piece: Any, name: str) -> Plain:
    """f or df of a piece; refused where it is no plain function of as many numbers as it should be."""
    needed, allowed = (1, "f(z) and df(z)") if isinstance(piece, Activation) else (2, "f(a, y) and df(a, y)")
    given = getattr(piece, name)
    try:
        found = Plain(given)
        code = found.function.__code__
        required = code.co_argcount - len(found.function.__defaults__ or ())
        right = required <= needed <= code.co_argcount and not code.co_flags & 0x0C
        right = right and code.co_kwonlyargcount == len(found.function.__kwdefaults__ or ())
    except TypeError:
        right = False
    if not right:
        raise ValueError(
            f"{name} of the {_kind(piece)} is {given!r}; plain functions {allowed} are allowed, which may take other "
            "numbers from a function around them, or as defaults; a method only as @staticmethod"
        )
    return found


def _kind(piece: Any) -> str:
    return "activation" if isinstance(piece, Activation) else "loss"


def _places(lowest: float, highest: float, count: int) -> list[float]:
    """Numbers spread over an interval, away from the round ones, at which users' functions have their kinks."""
    return [lowest + (highest - lowest) * ((k + 0.5) / count + 0.1 / count * math.sin(k)) for k in range(count)]


Z = [(z,) for z in (*_places(-6.1, 6.1, 36), -43.3, -17.1, -9.3, -7.2, 7.2, 9.3, 17.1, 43.3)]
TARGETS = (0.0, 0.4, 1.0, -1.0, 2.5, 7.3, -4.1)
A_AND_Y = [(a, y) for a in (*_places(0.03, 0.97, 9), *_places(-3.1, 3.1, 10)) for y in TARGETS]


def _check(piece: Any) -> None:
    """Refuse f and df that do not belong together."""
    what, there, near = _kind(piece), 0, 0
    for place, given, difference, rounding in slopes_compared(piece):
        at = ", ".join(f"{x:.4g}" for x in place)
        there += 1
        if not math.isfinite(given):
            raise ValueError(f"df({at}) of the {what} is {given}, and f a number there; a number is allowed")
        near += math.isnan(difference)
        if abs(given - difference) > TOLERANCE * max(1.0, abs(given)) + rounding:
            raise ValueError(
                f"df of the {what} is not the derivative of f: df({at}) is {given:.8g}, and f rises by "
                f"{difference:.8g} there"
            )
    if there == near:
        seen = "has a kink wherever it was looked at" if near else "is a finite number nowhere"
        raise ValueError(f"f of the {what} {seen}; functions that are smooth but for some kinks are allowed")


def slopes_compared(piece: Any) -> Iterator[tuple[tuple[float, ...], float, float, float]]:
    """(place, df there, what a central difference of fourth order says, its rounding): where f is a finite number.

    The difference is NaN where df jumps within its reach.
    """
    for x, *rest in Z if isinstance(piece, Activation) else A_AND_Y:
        h = STEP * max(1.0, abs(x))
        f = [value(piece.f, x + n * h, *rest) for n in (-2, -1, 0, 1, 2)]
        if all(map(math.isfinite, f)):
            slopes = [value(piece.df, x + n * h, *rest) for n in (-2, -1, 0, 1, 2)]
            difference = (8 * (f[3] - f[1]) - (f[4] - f[0])) / (12 * h)
            if not max(slopes) - min(slopes) <= JUMP * max(1.0, abs(slopes[2])):
                difference = math.nan
            yield (x, *rest), slopes[2], difference, ROUNDING * abs(f[2]) / h
