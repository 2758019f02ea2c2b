"""Contract 5, cold start: importing compiles and loads nothing unasked; one compilation serves every architecture."""

import json
import pathlib
import re

import pytest
from cases import run_python

import fastmlp

IMPORT = """
import json, sys
import numba
from numba.core import event
before = set(sys.modules)
with event.install_recorder("numba:compile") as recorder:
    import fastmlp
print(json.dumps({"compiled": len(recorder.buffer), "loaded": sorted(set(sys.modules) - before)}))
"""

ARCHITECTURES = """
import itertools, json
import numpy as np
import fastmlp
from fastmlp.cpu import compiling
from numba.core import event

loaded, load = [], compiling._FunctionCache.load_overload
compiling._FunctionCache.load_overload = lambda cache, *key: loaded.append(key) or load(cache, *key)

def train(dtype, sizes, optimizer, X, T, **settings):
    net = fastmlp.Network(sizes, dtype=dtype, random_state=0, **settings)
    more = {} if isinstance(optimizer, fastmlp.GradientDescent) else {"batch_size": 4}
    net.train(X, T, optimizer=optimizer, epochs=2, **more)
    net.forward(X), net.layers(X), net.deltas(X, T), net.objective(X, T), net.gradients(X, T)

def X(n):
    return np.ones((9, n), np.float32)

fastmlp.warmup()
counts = {}
for dtype in ("float32", "float64"):
    train(dtype, [3, 2], fastmlp.SGD(0.1), X(3), X(2))
    asked = len(loaded)
    with event.install_recorder("numba:compile") as recorder:
        for activation in ("identity", "logistic", "tanh", "relu", "softplus"):
            train(dtype, [7, 33, 17, 2], fastmlp.SGD(0.1, momentum=0.9), X(7), X(2), activation=activation, l2=0.1)
        train(dtype, [5] * 20, fastmlp.SGD(0.1, nesterov=True, momentum=0.9, weight_decay=0.1), X(5), X(5))
        train(dtype, [300, 2], fastmlp.Adam(max_gradient_norm=0.1), X(300), X(2), output="identity", dropout=0.0)
        train(dtype, [3, 9, 4], fastmlp.Adam(), X(3), [0, 1] * 4 + [2], output="softmax", loss="log_loss", dropout=0.5)
        train(dtype, [3, 9, 1], fastmlp.GradientDescent(0.1), X(3), X(1), output="logistic", loss="log_loss")
    counts[dtype] = len(recorder.buffer), len(loaded) - asked
print(json.dumps([counts, asked]))
"""


@pytest.fixture(scope="module")
def imported():
    return json.loads(run_python("-c", IMPORT))


def test_compiles_nothing(imported):
    assert imported["compiled"] == 0


@pytest.mark.parametrize(
    "package", ["sklearn", "scipy.optimize", "matplotlib", "numba.cuda", "numba_cuda", "onnx", "pandas"]
)
def test_loads_nothing_unasked(package, imported):
    """Beyond what numba itself imports."""
    assert [name for name in imported["loaded"] if f"{name}.".startswith(f"{package}.")] == []


def test_one_compilation_serves_every_architecture():
    """After one training of a dtype, no width, depth, function or rule compiles again, nor asks the cache for code."""
    counts, asked = json.loads(run_python("-c", ARCHITECTURES))
    assert counts == {"float32": [0, 0], "float64": [0, 0]}
    assert asked >= 10  # what the counts would have seen


def test_what_is_kept_on_disk_is_compiled_from_where_the_cache_key_looks():
    """Passes and entries are made in cpu/ only, whose kernels take nothing else along but formulas and codes."""
    package = pathlib.Path(fastmlp.__file__).parent
    for path in package.rglob("*.py"):
        if path.parent.name != "cpu":
            assert not re.search(r"^@(kernel|entry|once)|compiling\.pointer\(", path.read_text(), re.M) or (
                path.parent.name == "cuda" and "cpu.compiling" not in path.read_text()
            ), path
