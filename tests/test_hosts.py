"""The tiles of lesser hosts, compiled for on this one: AVX2 and generic SSE2 keep contract 2.

That this one's tile does, the same comparisons in test_network.py and test_training.py say.
"""

import functools
import json
import os
import platform
import sys

import pytest

AVX2 = "+sse,+sse2,+sse3,+ssse3,+sse4.1,+sse4.2,+popcnt,+avx,+avx2,+fma,+f16c,+bmi,+bmi2"
HOSTS = {
    "AVX2": {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": AVX2},
    "generic": {"NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": ""},
}

pytestmark = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the hosts named are x86-64")


def chosen_tile():
    """The register tile of this process, as numbers; the one place here that knows the names in cpu.vector."""
    from fastmlp.cpu import vector

    return [vector.VECTOR_BYTES, vector.TILE_ROWS, vector.TILE_VECTORS]


def check():
    """Everything a network computes, and training by each rule, against the lecture; the tile that did it."""
    from cases import DTYPES, OUTPUTS, assert_lecture, data, network
    from test_training import RULES, assert_trained

    for dtype in DTYPES:
        for activation, (output, loss) in zip(
            ("relu", "tanh", "logistic", "softplus", "identity") * 2, OUTPUTS, strict=False
        ):
            for sizes, m in (
                ([7, 17, 9, 3], 33),
                ([1, 1, 2], 1),
                ([70, 33, 65], 66),
                ([16, 32, 8], 64),
                ([11, 24, 25], 13),
            ):
                net = network(sizes, activation=activation, output=output, loss=loss, dtype=dtype, l2=0.01)
                assert_lecture(net, *data(net, m))
        for name in ("sgd", "momentum", "nesterov", "sgd everything", "adam", "adam everything"):
            net = network([11, 33, 9, 3], activation="tanh", dtype=dtype, l2=0.01)
            assert_trained(net, *data(net, 21), RULES[name], epochs=3, batch_size=8)
        net = network([5, 17, 3], dtype=dtype)
        assert_trained(net, *data(net, 300), ("GradientDescent", {"learning_rate": 0.5}))
    return chosen_tile()


@functools.cache
def run_as(host):
    """The tile that a process compiling for that host chose, once all its results were right."""
    from cases import run_python

    return json.loads(run_python(__file__, **HOSTS[host]))


@pytest.mark.parametrize("host", HOSTS)
def test_contract(host):
    assert run_as(host)


def test_tiles_differ():
    """The tile follows the host: 32-byte vectors for AVX2, 16-byte ones where there is nothing more."""
    assert run_as("AVX2")[0] == 32 and run_as("generic")[0] == 16


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(__file__))
    print(json.dumps(check()))
