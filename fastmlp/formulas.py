"""The scalar mathematics of the lecture: f, f', losses, output errors and update rules, one equation a function.

Every function is plain Python over numbers. The CPU kernels compile the same functions over SIMD vectors (a value
holds one number a lane), so each is straight-line: `where` takes the place of `if`. A literal takes the precision of
the value that it meets. Derivatives are written in terms of a = f(z), which is what the kernels keep.
"""

import math

import numpy as np

LOG2_E = 1.4426950408889634
LN2_HIGH = 0.693145751953125  # 16 bits: n * LN2_HIGH is exact in float32 for every |n| < 256
LN2_LOW = 1.42860682030941723212e-6

# ---- primitives: what a vector can do; the CPU replaces each by one or two instructions ---------------------------


def where(condition, x, y):
    """x where the condition holds, else y."""
    return x if condition else y


def multiply_add(x, y, z):
    """x y + z, rounded once where the chip can."""
    return x * y + z


def rounded_product(x, y):
    """The integer nearest to x y, or almost so, |x y| < 2^21, as a number of x's type."""
    return type(x)(np.rint(x * y))


def times_power_of_two(x, n):
    """x 2^n for a whole n <= 0, correctly rounded where the result is subnormal; NaN for a NaN."""
    return type(x)(math.ldexp(float(x), int(n)) if n == n else n)


def square_root(x):
    """The square root, rounded correctly."""
    return type(x)(math.sqrt(x))


def reciprocal_estimate(x):
    """1 / x to 13 bits or more."""
    return type(x)(1.0 / x)


def low_bits(x):
    """The 32 low bits of a whole number."""
    return x & 0xFFFFFFFF


def is_double(x):
    """Whether x is in double precision (known when a kernel is compiled)."""
    return isinstance(x, float)


# ---- exponentials --------------------------------------------------------------------------------------------------


def exp_series(r):
    """(e^r - 1 - r) / r^2 for |r| <= ln(2)/2.

    In double precision Taylor's series, cut where the next term no longer shows; in single the polynomial of degree 4
    whose largest error, a 20th of a unit in the last place of e^r, is the least.
    """
    p = multiply_add(r, 0.001381454012938554, 0.008368745108320275)
    p = multiply_add(p, r, 0.04166839078498469)
    p = multiply_add(p, r, 0.16666520399050305)
    p = multiply_add(p, r, 0.49999993432118905)
    if is_double(r):
        p = multiply_add(r, 1 / 6227020800, 1 / 479001600)
        p = multiply_add(p, r, 1 / 39916800)
        p = multiply_add(p, r, 1 / 3628800)
        p = multiply_add(p, r, 1 / 362880)
        p = multiply_add(p, r, 1 / 40320)
        p = multiply_add(p, r, 1 / 5040)
        p = multiply_add(p, r, 1 / 720)
        p = multiply_add(p, r, 1 / 120)
        p = multiply_add(p, r, 1 / 24)
        p = multiply_add(p, r, 1 / 6)
        p = multiply_add(p, r, 1 / 2)
    return p


def exp_negative(x):
    """e^x for x <= 0, down to the smallest subnormal: 2^n e^r with r = x - n ln 2."""
    lowest = -104.0
    if is_double(x):
        lowest = -745.5
    x = where(x < lowest, lowest, x)
    n = rounded_product(x, LOG2_E)
    r = multiply_add(n, -LN2_LOW, multiply_add(n, -LN2_HIGH, x))
    return times_power_of_two(multiply_add(multiply_add(exp_series(r), r, 1.0), r, 1.0), n)


def exponential(x):
    """e^x."""
    e = exp_negative(-abs(x))
    return where(x > 0.0, 1.0 / e, e)


def expm1_negative(x):
    """e^x - 1 for x <= 0 without cancellation near zero."""
    x = where(x < -40.0, -40.0, x)
    n = rounded_product(x, LOG2_E)
    r = multiply_add(n, -LN2_LOW, multiply_add(n, -LN2_HIGH, x))
    s = times_power_of_two(where(x < 0.0, 1.0, x + 1.0), n)
    return multiply_add(multiply_add(exp_series(r) * r, r, r), s, s - 1.0)


def log1p_unit(u):
    """ln(1 + u) for 0 <= u <= 1: 2 artanh(s) with s = u / (2 + u) <= 1/3, by its series."""
    d = u + 2.0
    s = u / d
    t = s * s
    p = multiply_add(t, 2 / 17, 2 / 15)
    if is_double(u):
        q = multiply_add(t, 2 / 35, 2 / 33)
        q = multiply_add(q, t, 2 / 31)
        q = multiply_add(q, t, 2 / 29)
        q = multiply_add(q, t, 2 / 27)
        q = multiply_add(q, t, 2 / 25)
        q = multiply_add(q, t, 2 / 23)
        q = multiply_add(q, t, 2 / 21)
        q = multiply_add(q, t, 2 / 19)
        q = multiply_add(q, t, 2 / 17)
        p = multiply_add(q, t, 2 / 15)
    p = multiply_add(p, t, 2 / 13)
    p = multiply_add(p, t, 2 / 11)
    p = multiply_add(p, t, 2 / 9)
    p = multiply_add(p, t, 2 / 7)
    p = multiply_add(p, t, 2 / 5)
    p = multiply_add(p, t, 2 / 3)
    # what the division left of u, times 2 / (u + 2) = 1 - s
    rest = multiply_add(-s, d, u) - s * ((2.0 - d) + u)
    return (s + s) + multiply_add(p * t, s, rest * (1.0 - s))


# ---- activations f(z) and their derivatives f'(z), in terms of a = f(z) --------------------------------------------


def identity(z):
    """f(z) = z."""
    return z


def identity_derivative(a):
    """f' = 1."""
    return a * 0.0 + 1.0


def logistic(z):
    """f(z) = 1 / (1 + e^-z) (eq. 1), from e^-|z| so that nothing overflows."""
    e = exp_negative(-abs(z))
    numerator = where(z < 0.0, e, 1.0)
    r = reciprocal_estimate(e + 1.0)
    a = numerator * r
    # what the estimate, and the sum's rounding, left of numerator - a (1 + e); numerator - a is exact
    return multiply_add(multiply_add(-a, e, numerator - a), r, a)


def logistic_derivative(a):
    """f' = a (1 - a)."""
    return a * (1.0 - a)


def tanh(z):
    """f(z) = tanh z = 2 / (1 + e^-2z) - 1 (eq. 2), as -t / (t + 2) with t = e^-2|z| - 1."""
    t = expm1_negative(abs(z) * -2.0)
    d = t + 2.0
    r = reciprocal_estimate(d)
    a = t * r
    a = multiply_add(multiply_add(-a, d, t), r, a)
    return where(z < 0.0, a, -a)


def tanh_derivative(a):
    """f' = 1 - a^2."""
    return multiply_add(-a, a, 1.0)


def relu(z):
    """f(z) = 0 for z < 0, z for z >= 0 (eq. 3)."""
    return where(z < 0.0, 0.0, z)


def relu_derivative(a):
    """f' = 1 for z > 0, else 0."""
    return where(a > 0.0, 1.0, a * 0.0)


def softplus(z):
    """f(z) = ln(1 + e^z) = max(z, 0) + ln(1 + e^-|z|)."""
    return where(z < 0.0, 0.0, z) + log1p_unit(exp_negative(-abs(z)))


def softplus_derivative(a):
    """f' = logistic(z) = 1 - e^-a."""
    return -expm1_negative(-a)


# ---- losses and the error of the output layer ----------------------------------------------------------------------


def squared_error(a, y):
    """One output's share of eq. 4: (a - y)^2 / 2."""
    return (a - y) * (a - y) * 0.5


def binary_log_loss(z, y):
    """-y ln a - (1 - y) ln(1 - a) with a = logistic(z), from z: softplus(z) - y z."""
    return where(z < 0.0, 0.0, z) - y * z + log1p_unit(exp_negative(-abs(z)))


def poisson_loss(z, y):
    """Half the Poisson deviance with a = e^z, from z, but for its part of y alone (y ln y - y): e^z - y z."""
    return exponential(z) - y * z


def huber_loss(a, y):
    """(a - y)^2 / 2 where |a - y| <= 1, |a - y| - 1/2 beyond (Huber, 1964)."""
    distance = abs(a - y)
    inside = where(distance < 1.0, distance, 1.0)
    return inside * (distance - inside * 0.5)


def absolute_error(a, y):
    """|a - y|."""
    return abs(a - y)


def huber_error(a, y):
    """The derivative of huber_loss by a: a - y, no further than 1 from zero."""
    error = where(a - y > 1.0, 1.0, a - y)
    return where(error < -1.0, -1.0, error)


def absolute_error_sign(a, y):
    """The derivative of absolute_error by a: the sign of a - y, zero where they are equal."""
    return where(a - y > 0.0, 1.0, where(a - y < 0.0, -1.0, a - y))


def clipped(loss, lowest, highest):
    """A log loss whose probability is kept from 0 and 1: no less than the lowest, no more than the highest."""
    loss = where(loss < lowest, lowest, loss)
    return where(loss > highest, highest, loss)


def output_error(a, y):
    """The a - y of eq. 8; with log loss (its f' cancels) the whole output delta."""
    return a - y


# ---- update rules: scikit-learn's, term for term -------------------------------------------------------------------


def decayed(w, decay):
    """Decoupled weight decay: w (1 - learning_rate weight_decay); decay is that product."""
    return multiply_add(w, -decay, w)


def regularized_gradient(u, w, scale, l2):
    """The bracket of eq. 12: scale U + l2 W, where scale is 1/m."""
    return multiply_add(u, scale, w * l2)


def descent(w, gradient, learning_rate):
    """W - alpha [...] (eq. 12, 13)."""
    return multiply_add(gradient, -learning_rate, w)


def momentum_velocity(velocity, gradient, learning_rate, momentum):
    """The velocity after a step: momentum * velocity - learning_rate * gradient."""
    return momentum * velocity - learning_rate * gradient


def adam_mean(mean, gradient, beta_1):
    """Adam's first moment (Kingma and Ba, 2015, algorithm 1)."""
    return beta_1 * mean + (1.0 - beta_1) * gradient


def adam_square(square, gradient, beta_2):
    """Adam's second moment."""
    return beta_2 * square + (1.0 - beta_2) * (gradient * gradient)


def adam_step(w, mean, square, step_size, epsilon):
    """w - step_size * mean / (sqrt(square) + epsilon); step_size holds both bias corrections."""
    return w - step_size * mean / (square_root(square) + epsilon)


# ---- dropout -------------------------------------------------------------------------------------------------------


def scrambled(bits):
    """A 32-bit integer well mixed (MurmurHash3's finalizer): dropout's random number for a position and a key."""
    bits = bits ^ (bits >> 16)
    bits = low_bits(bits * 0x85EBCA6B)
    bits = bits ^ (bits >> 13)
    bits = low_bits(bits * 0xC2B2AE35)
    return bits ^ (bits >> 16)


VECTORIZED = (
    exp_series, exp_negative, exponential, expm1_negative, log1p_unit,
    identity, identity_derivative, logistic, logistic_derivative, tanh, tanh_derivative, relu, relu_derivative,
    softplus, softplus_derivative, squared_error, binary_log_loss, poisson_loss, huber_loss, absolute_error,
    huber_error, absolute_error_sign, clipped, output_error, decayed, regularized_gradient,
    descent, momentum_velocity, adam_mean, adam_square, adam_step, scrambled,
)  # fmt: skip
