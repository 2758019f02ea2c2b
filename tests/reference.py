"""The lecture in plain float64 Python: loops over layers, examples and units, one function an equation.

Layer l joins `weights[l]`, (n_in, n_out), and `biases[l]`, (n_out,): entry [i, j] is the lecture's W_ji. Nothing here
is fast, and nothing here knows the package it judges. `passed` is what `layers` gave for the same network and examples,
for those who have it.
"""

import math
from operator import mul
from typing import NamedTuple

import numpy as np


class Net(NamedTuple):
    """The parameters of a network and the functions it is made of: names, or objects with functions f and df."""

    weights: list
    biases: list
    activation: str = "logistic"
    output: str = "logistic"
    loss: str = "squared_error"
    l2: float = 0.0


def logistic(z):
    """Eq. 1, written so that exp never overflows."""
    return 1 / (1 + math.exp(-z)) if z >= 0 else math.exp(z) / (1 + math.exp(z))


def softplus(z):
    """ln(1 + e^z)."""
    return max(z, 0.0) + math.log1p(math.exp(-abs(z)))


# f and f' (eq. 1-3); relu's derivative at 0 is 0.
FUNCTIONS = {
    "identity": (lambda z: z, lambda z: 1.0),
    "logistic": (logistic, lambda z: logistic(z) * (1 - logistic(z))),
    "tanh": (math.tanh, lambda z: 1 - math.tanh(z) ** 2),
    "relu": (lambda z: max(z, 0.0), lambda z: 1.0 if z > 0 else 0.0),
    "softplus": (softplus, logistic),
}


def functions(name):
    """f and f' of an activation."""
    return FUNCTIONS[name] if isinstance(name, str) else (name.f, name.df)


def softmax(z):
    """e^z_j / sum_k e^z_k for one example."""
    largest = max(z)
    e = [math.exp(z_j - largest) for z_j in z]
    return [e_j / sum(e) for e_j in e]


def dot(u, v):
    return sum(map(mul, u, v))


def rows(array):
    """A matrix as float64 Python lists, one an example."""
    return np.asarray(array, np.float64).tolist()


def layers(net, X):
    """Eq. 7: [(z, a), ...] for layers 2 .. L, each (m, n_l)."""
    a, result = rows(X), []
    for l, (W, b) in enumerate(zip(net.weights, net.biases)):
        columns, b = rows(W.T), rows(b)
        z = [[dot(w_j, a_k) + b_j for w_j, b_j in zip(columns, b)] for a_k in a]
        name = net.output if l == len(net.weights) - 1 else net.activation
        a = [softmax(z_k) if name == "softmax" else [functions(name)[0](z_kj) for z_kj in z_k] for z_k in z]
        result.append((np.array(z), np.array(a)))
    return result


def forward(net, X):
    """h_{W,b}(x) for every example, (m, n_out)."""
    return layers(net, X)[-1][1]


def deltas(net, X, T, passed=None):
    """Eq. 8 and, from the last layer back, eq. 9: [delta^(2), ..., delta^(L)], each (m, n_l)."""
    passed = passed or layers(net, X)
    z, a = passed[-1]
    if net.loss == "log_loss":
        delta = rows(a - np.asarray(T, np.float64))
    else:
        derivative = functions(net.output)[1]
        error = (lambda a_j, t_j: a_j - t_j) if net.loss == "squared_error" else net.loss.df
        delta = [
            [error(a_j, t_j) * derivative(z_j) for z_j, a_j, t_j in zip(z_k, a_k, t_k)]
            for z_k, a_k, t_k in zip(rows(z), rows(a), rows(T))
        ]
    result, derivative = [np.array(delta)], functions(net.activation)[1]
    for W, (z, _) in zip(net.weights[:0:-1], passed[-2::-1]):
        W = rows(W)
        delta = [
            [dot(w_i, delta_k) * derivative(z_i) for w_i, z_i in zip(W, z_k)] for z_k, delta_k in zip(rows(z), delta)
        ]
        result.insert(0, np.array(delta))
    return result


def gradients(net, X, T, sample_weight=None, passed=None):
    """Eq. 10-12: (dW, db), U / m + lambda W and V / m; with weights, the weighted mean over the examples."""
    weight = rows(np.ones(len(X)) if sample_weight is None else sample_weight)
    passed = passed or layers(net, X)
    inputs = [X] + [a for _, a in passed[:-1]]
    dW, db = [], []
    for W, a, delta in zip(net.weights, inputs, deltas(net, X, T, passed)):
        n_in, n_out = W.shape
        U, V = [[0.0] * n_out for _ in range(n_in)], [0.0] * n_out
        for w_k, a_k, delta_k in zip(weight, rows(a), rows(delta)):
            delta_k = [w_k * delta_kj for delta_kj in delta_k]
            for i, a_ki in enumerate(a_k):
                U[i] = [u_ij + a_ki * delta_kj for u_ij, delta_kj in zip(U[i], delta_k)]
            V = [v_j + delta_kj for v_j, delta_kj in zip(V, delta_k)]
        dW.append(np.array(U) / sum(weight) + net.l2 * W)
        db.append(np.array(V) / sum(weight))
    return dW, db


def loss_of_one(net, z, h, t):
    """Eq. 4, or the log loss of the example computed from z."""
    if net.loss == "squared_error":
        return 0.5 * sum((h_j - t_j) ** 2 for h_j, t_j in zip(h, t))
    if net.output == "softmax":
        log_of_sum = max(z) + math.log(sum(math.exp(z_j - max(z)) for z_j in z))
        return sum(t_j * (log_of_sum - z_j) for z_j, t_j in zip(z, t))
    if net.loss != "log_loss":
        return sum(net.loss.f(h_j, t_j) for h_j, t_j in zip(h, t))
    return sum(softplus(z_j) - t_j * z_j for z_j, t_j in zip(z, t))


def objective(net, X, T, sample_weight=None, passed=None):
    """Eq. 6: the (weighted) mean loss and the weight penalty of eq. 5."""
    weight = rows(np.ones(len(X)) if sample_weight is None else sample_weight)
    z, h = (passed or layers(net, X))[-1]
    each = [loss_of_one(net, *example) for example in zip(rows(z), rows(h), rows(T))]
    return dot(weight, each) / sum(weight) + net.l2 / 2 * sum(float((W**2).sum()) for W in net.weights)


class SGD:
    """scikit-learn's rule: v = momentum v - learning_rate g; the step is v, or so again from v with Nesterov."""

    def __init__(self, learning_rate, momentum=0.0, nesterov=False, weight_decay=0.0, max_gradient_norm=None):
        self.learning_rate, self.momentum, self.nesterov = learning_rate, momentum, nesterov
        self.weight_decay, self.max_gradient_norm = weight_decay, max_gradient_norm
        self.velocity = {}

    def step(self, name, g, learning_rate, t):
        v = self.momentum * self.velocity.get(name, 0.0) - learning_rate * g
        self.velocity[name] = v
        return self.momentum * v - learning_rate * g if self.nesterov else v


class GradientDescent(SGD):
    """Eq. 12-13: the plain step, over all the examples (train makes one minibatch of them)."""

    def __init__(self, learning_rate):
        super().__init__(learning_rate)


class Adam:
    """scikit-learn's rule: the bias correction in the learning rate, epsilon outside the root."""

    def __init__(
        self, learning_rate=1e-3, beta_1=0.9, beta_2=0.999, epsilon=1e-8, weight_decay=0.0, max_gradient_norm=None
    ):
        self.learning_rate, self.beta_1, self.beta_2, self.epsilon = learning_rate, beta_1, beta_2, epsilon
        self.weight_decay, self.max_gradient_norm = weight_decay, max_gradient_norm
        self.moments = {}

    def step(self, name, g, learning_rate, t):
        first, second = self.moments.get(name, (0.0, 0.0))
        first = self.beta_1 * first + (1 - self.beta_1) * g
        second = self.beta_2 * second + (1 - self.beta_2) * g**2
        self.moments[name] = first, second
        corrected = learning_rate * math.sqrt(1 - self.beta_2**t) / (1 - self.beta_1**t)
        return -corrected * first / (np.sqrt(second) + self.epsilon)


def clip(dW, db, largest):
    """Scale the whole gradient so that its L2 norm over all weights and biases is at most `largest`."""
    norm = math.sqrt(sum(float((g**2).sum()) for g in dW + db))
    scale = largest / norm if largest is not None and norm > largest else 1.0
    return [scale * g for g in dW], [scale * g for g in db]


def update(net, optimizer, dW, db, learning_rate, t):
    """Eq. 12-13 by the optimizer's rule; weight decay is decoupled, at the plain learning rate, on the weights only."""
    dW, db = clip(dW, db, optimizer.max_gradient_norm)
    decay = learning_rate * optimizer.weight_decay
    weights = [
        W + optimizer.step(("W", l), g, learning_rate, t) - decay * W for l, (W, g) in enumerate(zip(net.weights, dW))
    ]
    biases = [b + optimizer.step(("b", l), g, learning_rate, t) for l, (b, g) in enumerate(zip(net.biases, db))]
    return net._replace(weights=weights, biases=biases)


class Run(NamedTuple):
    """What training left: the network, and for each epoch J as it was seen and the largest change of a parameter."""

    net: Net
    objective: list
    change: list


def train(net, X, T, optimizer, epochs, batch_size=None, order=None, sample_weight=None):
    """Minibatch training; `order` gives the order of the examples of each epoch, as they stand without it."""
    X, T, m = np.asarray(X, np.float64), np.asarray(T, np.float64), len(X)
    weight = np.ones(m) if sample_weight is None else np.asarray(sample_weight, np.float64)
    batch_size = m if batch_size is None or isinstance(optimizer, GradientDescent) else min(batch_size, m)
    seen, change, t = [], [], 0
    for epoch in range(epochs):
        rate = optimizer.learning_rate(epoch) if callable(optimizer.learning_rate) else optimizer.learning_rate
        before, J = net, 0.0
        examples = np.arange(m) if order is None else np.asarray(order[epoch])
        for start in range(0, m, batch_size):
            k = examples[start : start + batch_size]
            minibatch = X[k], T[k], weight[k], layers(net, X[k])
            J += objective(net, *minibatch) * len(k) / m
            t += 1
            net = update(net, optimizer, *gradients(net, *minibatch), rate, t)
        seen.append(J)
        pairs = zip(net.weights + net.biases, before.weights + before.biases)
        change.append(max(float(abs(new - old).max()) for new, old in pairs))
    return Run(net, seen, change)
