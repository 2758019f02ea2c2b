"""f, f' and dropout over tiles of activations and deltas that are still in the L1 cache (eq. 1-3)."""

from fastmlp.codes import IDENTITY, LOGISTIC, RELU, SOFTPLUS, SUPPLIED, TANH
from fastmlp.cpu.compiling import kernel
from fastmlp.cpu.vector import (
    address,
    broadcast,
    call_map,
    lane_sum,
    lanes,
    load,
    numbers_at,
    panel_width,
    positions,
    store,
)
from fastmlp.cpu.work import INT64
from fastmlp.formulas import (
    exp_negative,
    exponential,
    logistic,
    logistic_derivative,
    relu,
    relu_derivative,
    scrambled,
    softplus,
    softplus_derivative,
    tanh,
    tanh_derivative,
    where,
)


@kernel
def activate(layer, activation, A, a, vectors, rows):
    """a = f(z) in place (eq. 1-3) for `rows` rows of `vectors` vectors at A[a]; the identity has nothing to do.

    f is named by `activation`; one that a user has supplied is the layer's own.
    """
    P, V = panel_width(A), lanes(A)
    if activation == IDENTITY:
        return
    if activation == SUPPLIED:
        call_map(layer.f, address(A, a), address(A, a), address(A, a), vectors, rows)
        return
    for r in range(a, a + rows * P, P):
        for v in range(r, r + vectors * V, V):
            z = load(A, v)
            if activation == LOGISTIC:
                z = logistic(z)
            elif activation == TANH:
                z = tanh(z)
            elif activation == RELU:
                z = relu(z)
            elif activation == SOFTPLUS:
                z = softplus(z)
            else:
                z = exponential(z)
            store(A, v, z)


@kernel
def keep_slopes(layer, activation, A, S, a, vectors, rows):
    """f'(z) into S, z being at A[a] still, where a user has supplied f: it need not be a function of f(z)."""
    if activation == SUPPLIED:
        call_map(layer.df, address(A, a), address(A, a), address(S, a), vectors, rows)


@kernel
def multiply_derivative(activation, A, D, S, a, vectors, rows, unscale):
    """delta *= f'(z) (the last factor of eq. 8 and 9), for `rows` rows of `vectors` vectors at A[a] and D[a].

    A holds f(z) / unscale: dropout's scale is taken back before f' is formed. S holds what `keep_slopes` kept.
    """
    P, V = panel_width(A), lanes(A)
    if activation == IDENTITY:
        return
    if activation == SUPPLIED:
        for r in range(a, a + rows * P, P):
            for v in range(r, r + vectors * V, V):
                d = load(D, v)
                moved = d * load(S, v)  # padding has no delta, and may have no slope: 0 * NaN is to stay 0
                store(D, v, where(d < 0.0, moved, where(d > 0.0, moved, d)))
        return
    for r in range(a, a + rows * P, P):
        for v in range(r, r + vectors * V, V):
            y = load(A, v) * unscale
            if activation == LOGISTIC:
                y = logistic_derivative(y)
            elif activation == TANH:
                y = tanh_derivative(y)
            elif activation == RELU:
                y = relu_derivative(y)
            else:
                y = softplus_derivative(y)
            store(D, v, load(D, v) * y)


@kernel
def drop(step, layer, A, key, scale, begin, end):
    """Inverted dropout of a layer's activations (or deltas) in place: zero below step.threshold, else times scale.

    A hash of the key and of the unit's place, the row counted from the minibatch's start, decides: the forward and the
    backward pass, and any number of threads or machines, drop the same units.
    """
    P, V = panel_width(A), lanes(A)
    threshold = step.threshold
    for p in range(layer.out_panels):
        for r in range(begin, end):
            a = layer.a_out + p * layer.stride + r * P
            row = place_in_minibatch(step, r)
            for v in range(0, min(P, layer.n_out - p * P), V):
                place = positions(A, row * layer.n_out + p * P + v)
                bits = scrambled(scrambled(place) ^ key)
                store(A, a + v, where(bits < threshold, 0.0, load(A, a + v) * scale))


@kernel
def place_in_minibatch(step, r):
    """Where row r of the chunk stands among all examples of the minibatch; those that fill up a tile stand anywhere."""
    if step.places != 0 and r < step.examples:
        return numbers_at(step.places, INT64)[step.begin + r]
    return step.offset + r


@kernel
def softmax(layer, A, a, stride):
    """a_j = e^z_j / sum_k e^z_k in place for one example, its z at A[a] in panels `stride` apart."""
    P, V = panel_width(A), lanes(A)
    top = A[a]
    for j in range(layer.n_out):
        z = A[a + j // P * stride + j % P]
        if z > top:
            top = z
    powers = broadcast(A, 0.0)
    for j in range(0, layer.n_out, V):
        v = a + j // P * stride + j % P
        z = load(A, v) - top
        power = exp_negative(where(z < 0.0, z, 0.0))
        if layer.n_out - j < V:
            power = where(positions(A, 0) < layer.n_out - j, power, 0.0)
        store(A, v, power)
        powers = powers + power
    total = lane_sum(powers)
    for j in range(0, layer.n_out, V):
        v = a + j // P * stride + j % P
        store(A, v, load(A, v) / total)
