"""f, f' and dropout of a unit (eq. 1-3)."""

import functools

import numpy as np

from fastmlp.codes import EXPONENTIAL, IDENTITY, LOGISTIC, RELU, SOFTPLUS, SUPPLIED, TANH
from fastmlp.cuda.compiling import device, mathematics, of_users
from fastmlp.cuda.work import MINIBATCH, OFFSET

MASK = 0xFFFFFFFF


@functools.cache
def make_activation(real, supplied=None):
    """(activate, slope, keep_slope, kept_slope, kept) for numbers of type `real`.

    `supplied` is the Activation that a user has supplied for the layers in question, if any.
    """
    m = mathematics(real)
    logistic, tanh, relu, softplus, exponential = m.logistic, m.tanh, m.relu, m.softplus, m.exponential
    logistic_derivative, tanh_derivative = m.logistic_derivative, m.tanh_derivative
    relu_derivative, softplus_derivative, scrambled = m.relu_derivative, m.softplus_derivative, m.scrambled
    one = real(1)

    @device
    def activate(activation, z):
        """a = f(z) (eq. 1-3)."""
        a = z
        if activation == LOGISTIC:
            a = logistic(z)
        elif activation == TANH:
            a = tanh(z)
        elif activation == RELU:
            a = relu(z)
        elif activation == SOFTPLUS:
            a = softplus(z)
        elif activation == EXPONENTIAL:
            a = exponential(z)
        return a

    @device
    def derivative(activation, a):
        """f'(z) from a = f(z), the last factor of eq. 8 and 9."""
        slope = one
        if activation == LOGISTIC:
            slope = logistic_derivative(a)
        elif activation == TANH:
            slope = tanh_derivative(a)
        elif activation == RELU:
            slope = relu_derivative(a)
        elif activation == SOFTPLUS:
            slope = softplus_derivative(a)
        return slope

    @device
    def kept(step, chunk, layer, n_out, row, j):
        """Whether dropout keeps unit j of a layer of n_out units: as on the CPU, a hash of its place says so."""
        key = (step.dropout_seed + chunk[MINIBATCH] * 0x9E3779B1 + layer * 0x85EBCA77) & MASK
        place = ((chunk[OFFSET] + row) * n_out + j) & MASK
        bits = scrambled(scrambled(np.uint64(place)) ^ np.uint64(key))
        return np.int64(bits) >= step.threshold

    if supplied is None:

        @device
        def slope(activation, z, a):
            """f'(z)."""
            return derivative(activation, a)

        @device
        def keep_slope(layer, room, place, z):
            """Nothing to do: f'(z) is a function of f(z)."""

        @device
        def kept_slope(activation, a, room, place):
            """f'(z) from a = f(z)."""
            return derivative(activation, a)

        return activate, slope, keep_slope, kept_slope, kept

    f, df = of_users(real, supplied.plain_f, 1), of_users(real, supplied.plain_df, 1)

    @device
    def activate_supplied(activation, z):
        """a = f(z), f being the user's; the output layer's z stays as it is."""
        return f(z) if activation == SUPPLIED else z

    @device
    def slope_supplied(activation, z, a):
        """f'(z)."""
        return df(z) if activation == SUPPLIED else one

    @device
    def keep_slope_supplied(layer, room, place, z):
        """Write f'(z), which need not be a function of f(z), where delta will be."""
        if layer.hidden and layer.d_out > 0:
            room[layer.d_out + place] = df(z)

    @device
    def kept_slope_supplied(activation, a, room, place):
        """f'(z), where delta will be."""
        return room[place]

    return activate_supplied, slope_supplied, keep_slope_supplied, kept_slope_supplied, kept


@functools.cache
def make_activate_all(real, count, supplied=None):
    """activate_all(activation, z, slopes): z[n] becomes f(z[n]), slopes[n] f'(z[n]), for `count` units.

    Which f it is is asked once.
    """
    activate, slope, *_ = make_activation(real, supplied)

    @device
    def put_through(which, z, slopes):
        for n in range(count):
            a = activate(which, z[n])
            slopes[n] = slope(which, z[n], a)
            z[n] = a

    @device
    def activate_all(activation, z, slopes):  # constants leave one f to each branch
        if activation == LOGISTIC:
            put_through(LOGISTIC, z, slopes)
        elif activation == TANH:
            put_through(TANH, z, slopes)
        elif activation == RELU:
            put_through(RELU, z, slopes)
        elif activation == SOFTPLUS:
            put_through(SOFTPLUS, z, slopes)
        elif activation == EXPONENTIAL:
            put_through(EXPONENTIAL, z, slopes)
        else:
            put_through(IDENTITY, z, slopes)

    return activate_all if supplied is None else put_through
