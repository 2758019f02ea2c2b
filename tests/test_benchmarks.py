"""The benchmarks' own arithmetic: what is trained is the same for every peer, and the README says what was measured."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import reference

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def epochs():
    """The module benchmarks/epochs.py."""
    sys.path.insert(0, str(BENCHMARKS))
    yield importlib.import_module("epochs")
    sys.path.remove(str(BENCHMARKS))


@pytest.mark.parametrize("recipe", ["lecture", "practice"])
@pytest.mark.parametrize("peer", ["fastmlp", "numpy", "torch", "torch-eager", "jax"])
def test_peers_train_the_same_network(epochs, peer, recipe):
    """With one minibatch an epoch the order of examples does not matter: all peers end with the lecture's weights."""
    case = epochs.Case((5, 7, 3), 24, 24, recipe)
    start = case.parameters("float64")
    if recipe == "practice":
        net, optimizer = reference.Net(*start, "relu", "softmax", "log_loss"), reference.Adam(epochs.ADAM_RATE)
    else:
        net, optimizer = reference.Net(*start), reference.SGD(epochs.LEARNING_RATE)
    expected = reference.train(net, *case.data("float64"), optimizer, 3).net
    if peer not in ("fastmlp", "numpy"):
        pytest.importorskip(peer.removesuffix("-eager"))  # the test extra has neither PyTorch nor JAX
    train, parameters = epochs.PEERS[peer](case, "float64", 1)
    train(1)
    train(2)
    # PyTorch's own Adam adds epsilon after the correction of the second moment, not before: its steps, of about
    # ADAM_RATE, are others where a gradient is tiny
    eager_adam = (peer, recipe) == ("torch-eager", "practice")
    tolerance = {"rtol": 0, "atol": 0.05 * epochs.ADAM_RATE} if eager_adam else {"rtol": 1e-9, "atol": 1e-12}
    for found, wanted in zip(parameters(), (expected.weights, expected.biases), strict=True):
        for array, other in zip(found, wanted, strict=True):
            np.testing.assert_allclose(array, other, **tolerance)


@pytest.mark.parametrize("recipe", ["lecture", "practice"])
def test_many_networks_are_the_same_whichever_way(epochs, recipe):
    many = importlib.import_module("many")
    case = epochs.Case((5, 7, 3), 24, 24, recipe)
    found = {}
    for way in ("together", "one by one", "jax"):
        if way == "jax":
            assert all(map(np.array_equal, *found.values()))
            pytest.importorskip("jax")
        train, weights = many.WAYS[way](case, "float64", 3)
        train(3)
        found[way] = [W for network in weights() for W in network]
    for together, peer in zip(found["together"], found["jax"], strict=True):
        np.testing.assert_allclose(together, peer, rtol=1e-9, atol=1e-12)


def test_readme_says_what_was_measured():
    """The section on speed is what report.py writes from the committed results."""
    env = os.environ | {"PYTHONPATH": ""}
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "report.py", "--check"], capture_output=True, text=True, env=env
    )
    assert done.returncode == 0, done.stderr


def test_gpu_without_a_gpu():
    """benchmarks/gpu.py says why there is nothing to measure, and ends with status 1."""
    from fastmlp import devices

    if devices.problem_of(devices.look()) is None:
        pytest.skip("there is a GPU")
    done = subprocess.run([sys.executable, BENCHMARKS / "gpu.py"], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("gpu.py: "), done.stderr


def test_gpu_table(epochs, tmp_path):
    """The table takes medians, names the lead over the best peer, and leaves gaps for what failed; children end."""
    gpu = importlib.import_module("gpu")
    name = "mnist-784-128-10-b64"
    times = {"fastmlp-cuda": [1e-6, 2e-6, 9e-6], "jax-cuda": [6e-6, 8e-6], "torch-cuda": "OutOfMemoryError"}
    peers = {"tf32": {peer: {name: found} for peer, found in times.items()}}
    header, _, row = gpu.table({"peers": peers}, "tf32")
    assert "jax-cuda" in header and row.split(" | ")[1:5] == ["2", "7", "-", "3.50x"]
    lines, problem = gpu.ask(["epochs", "fastmlp-cuda", "bf16", 1, name], 100, tmp_path)
    assert problem == "" and lines[0][0] == name and (isinstance(lines[0][1], list) or "AbsentError" in lines[0][1])
    late = gpu.ask(["epochs", "fastmlp-cuda", "bf16", 1, name], 0.01, tmp_path)
    assert late == ([], "took longer than 0.01 s: ")


def test_gpu_targets(epochs):
    """Targets are named beside what was found, at their own precision, and what was not measured is said to be so."""
    gpu = importlib.import_module("gpu")
    wide, flops = "width-1024-b1024", gpu.GRID["width-1024-b1024"].flops / gpu.GRID["width-1024-b1024"].steps
    bf16 = {
        "fastmlp-cuda": {"fused-64x4-b16384": [2e-6], wide: [flops / 300e12], "mnist-784-128-10-b64": [4e-6]},
        "torch-graph-cuda": {"fused-64x4-b16384": [9e-6]},
    }
    result = {"peers": {"bf16": bf16}, "ceilings": {"gemm_bf16_of": {wide: 600.0}}}
    narrow, tf32, wide_bf16, small = gpu.targets(result)
    assert "4.50x" in narrow and "not measured" in tf32 and "50% to 50% of cuBLAS" in wide_bf16 and "bf16 4 us" in small
    assert "| 50% |" in next(line for line in gpu.table(result, "bf16") if wide in line)
    assert all("not measured" in line for line in gpu.targets({"peers": {}}))
    args = gpu.parse(["--precisions", "tf32,bf16", "--only", "check"])
    assert args.precisions == ["tf32", "bf16"] and args.only == ["check"]
    with pytest.raises(SystemExit):
        gpu.parse(["--precisions", "fp8"])
