"""f, f' and dropout of a unit (eq. 1-3)."""

import functools

import numpy as np

from fastmlp.codes import EXPONENTIAL, LOGISTIC, RELU, SOFTPLUS, SUPPLIED, TANH
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
    m = mathematics(real)
    logistic, tanh, relu, softplus, exponential = m.logistic, m.tanh, m.relu, m.softplus, m.exponential
    logistic_derivative, tanh_derivative = m.logistic_derivative, m.tanh_derivative
    relu_derivative, softplus_derivative = m.relu_derivative, m.softplus_derivative
    one = real(1)

    @device
    def activate_all(activation, z, slopes):
        if activation == LOGISTIC:
            for n in range(count):
                z[n] = logistic(z[n])
                slopes[n] = logistic_derivative(z[n])
        elif activation == TANH:
            for n in range(count):
                z[n] = tanh(z[n])
                slopes[n] = tanh_derivative(z[n])
        elif activation == RELU:
            for n in range(count):
                z[n] = relu(z[n])
                slopes[n] = relu_derivative(z[n])
        elif activation == SOFTPLUS:
            for n in range(count):
                z[n] = softplus(z[n])
                slopes[n] = softplus_derivative(z[n])
        elif activation == EXPONENTIAL:
            for n in range(count):
                z[n] = exponential(z[n])
                slopes[n] = one
        else:
            for n in range(count):
                slopes[n] = one

    if supplied is None:
        return activate_all

    f, df = of_users(real, supplied.plain_f, 1), of_users(real, supplied.plain_df, 1)

    @device
    def activate_all_supplied(activation, z, slopes):
        for n in range(count):
            slopes[n] = df(z[n])
            z[n] = f(z[n])

    return activate_all_supplied
