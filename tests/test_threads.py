"""Contract 1: any thread count, the same bits. One process a thread count trains every network."""

import json
import os
import sys

import numpy as np
import pytest

# sizes, settings of the network, m, batch_size, optimizer and its settings, epochs
NETWORKS = {
    "tiny": ([2, 3, 1], {}, 7, 2, "SGD", {"learning_rate": 0.3}, 3),
    "ragged": ([13, 65, 33, 5], {"activation": "relu", "l2": 0.01}, 301, 50, "SGD", {"momentum": 0.9}, 3),
    "deep": ([9, *[17] * 30, 3], {"activation": "tanh"}, 100, 33, "Adam", {}, 2),
    "wide": ([1500, 257, 3], {"output": "softmax", "loss": "log_loss"}, 130, 64, "SGD", {"nesterov": True}, 2),
    "even": ([512, 512, 512, 16], {"activation": "softplus"}, 512, 256, "Adam", {"weight_decay": 0.1}, 1),
    "one output": ([300, 128, 1], {"loss": "log_loss"}, 257, 128, "SGD", {"momentum": 0.5}, 2),
    "full batch": ([20, 64, 3], {"l2": 0.01}, 3001, None, "GradientDescent", {"learning_rate": 0.5}, 3),
    "dropout": ([20, 129, 64, 3], {"dropout": 0.3, "activation": "relu"}, 300, 64, "Adam", {}, 3),
    "clipping": ([20, 150, 70, 3], {"activation": "tanh"}, 200, 64, "SGD", {"max_gradient_norm": 0.05}, 3),
    "lbfgs": ([20, 33, 3], {}, 600, None, "LBFGS", {}, 5),
    "slices": ([784, 512, 10], {"activation": "relu"}, 10000, 128, "SGD", {"learning_rate": 0.01}, 1),
}


def train_all():
    """The digest of what each network computes and of what training leaves, in this process."""
    import hashlib

    from cases import DTYPES, data, digest, network

    import fastmlp

    found = {}
    for name, (sizes, settings, m, batch_size, optimizer, arguments, epochs) in NETWORKS.items():
        for dtype in DTYPES[:1] if name == "slices" else DTYPES:
            net = network(sizes, dtype=dtype, **settings)
            X, T = data(net, m)
            if optimizer != "LBFGS":
                arguments = {"learning_rate": 0.05, **arguments}
            more = {} if batch_size is None else {"batch_size": batch_size}
            weight = np.random.default_rng(0).random(m) if name == "ragged" else None
            dW, db = net.gradients(X, T, sample_weight=weight)
            computed = [net.forward(X), *dW, *db]
            chosen = getattr(fastmlp, optimizer)(**arguments)
            history = net.train(X, T, optimizer=chosen, epochs=epochs, sample_weight=weight, **more)
            found[f"{name} {dtype}"] = [
                hashlib.sha256(b"".join(a.tobytes() for a in computed)).hexdigest(),
                digest(net),
                *(J.hex() for J in [*history.objective, net.objective(X, T)]),
            ]
    return found


def digests(threads, **environment):
    from cases import run_python

    return json.loads(run_python(__file__, str(threads), **environment))


@pytest.fixture(scope="module")
def one_thread():
    return digests(1, NUMBA_NUM_THREADS="1")


@pytest.mark.parametrize(
    ("launched", "used", "environment"),
    [(2, 2, {}), (3, 3, {}), (7, 7, {}), (7, 2, {}), (3, 3, {"NUMBA_THREADING_LAYER": "workqueue"})],
    ids=["2", "3", "7", "2 of 7", "3 of workqueue"],
)
def test_same_bits(launched, used, environment, one_thread):
    """Forward, gradients, trained weights and history of every network, both dtypes."""
    found = digests(used, NUMBA_NUM_THREADS=str(launched), **environment)
    assert found.keys() == one_thread.keys()
    assert [name for name in found if found[name] != one_thread[name]] == []


if __name__ == "__main__":
    import numba

    sys.path.insert(0, os.path.dirname(__file__))
    numba.set_num_threads(int(sys.argv[1]))
    print(json.dumps(train_all()))
