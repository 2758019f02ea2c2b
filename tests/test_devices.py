"""What "cuda" and "auto" mean on machines with and without a GPU."""

import warnings

import numpy as np
import pytest
from cases import refused, run_python

import fastmlp
from fastmlp import devices

GOOD = devices.Probe(True, True, 1, "NVIDIA H100", (9, 0), 13000, 13050)


@pytest.mark.parametrize(
    ("probe", "there", "fragments"),
    [
        (devices.Probe(), False, ("not installed", "fastmlp[cuda]")),
        (devices.Probe(installed=True), False, ("no NVIDIA driver", "libcuda")),
        (devices.Probe(installed=True, driver=True), False, ("sees no GPU",)),
        (GOOD._replace(error="CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"), True, ("SYSTEM_DRIVER_MISMATCH", "nvidia-smi")),
        (GOOD._replace(capability=(6, 1), name="GTX 1080"), True, ("GTX 1080", "6.1", "7.5")),
        (GOOD._replace(driver_version=12040), True, ("CUDA 12.4", "13.5", "numba-cuda[cu12]")),
    ],
)
def test_problems(probe, there, fragments):
    """Each problem is said, with what to do; those where a GPU is there are of interest to "auto"."""
    problem = devices.problem_of(probe)
    assert problem.there == there
    assert all(fragment in problem.message for fragment in fragments), problem.message


def test_no_problem():
    """A driver of the compiler's generation and a supported GPU; minor versions may differ."""
    assert devices.problem_of(GOOD) is None


def test_no_visible_gpu_says_which_are_visible(monkeypatch):
    """CUDA_VISIBLE_DEVICES is the usual reason."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "CUDA_VISIBLE_DEVICES is ''" in devices.problem_of(devices.Probe(True, True)).message


def test_cuda_without_a_gpu_is_an_error(monkeypatch):
    """Networks and estimators refuse device="cuda" in words."""
    problem = devices.problem_of(devices.Probe(installed=True))
    monkeypatch.setattr(devices, "cuda_problem", lambda: problem)
    with refused("device is 'cuda'", "no NVIDIA driver", "'cpu' and 'auto' are allowed"):
        fastmlp.Network([2, 3, 1], device="cuda")
    X, y = np.eye(4), [0, 1, 0, 1]
    with refused("device is 'cuda'", "no NVIDIA driver"):
        fastmlp.MLPClassifier((3,), device="cuda").fit(X, y)


@pytest.mark.parametrize("there", (False, True))
def test_auto_without_a_usable_gpu(monkeypatch, there):
    """ "auto" is silent without a driver, explains once where a GPU is there, and trains on the CPU."""
    problem = devices.Problem(f"of a test {there}", there)
    monkeypatch.setattr(devices, "cuda_problem", lambda: problem)
    X, T = np.random.default_rng(0).random((9, 2)), np.zeros((9, 1))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            net = fastmlp.Network([2, 3, 1], device="auto", random_state=0)
            net.train(X, T, optimizer=fastmlp.SGD(0.1), epochs=1)
            assert net.device == "cpu"
    assert [str(w.message).endswith(problem.message) for w in caught] == [True] * there


def test_auto_takes_the_gpu_where_the_work_is_worth_it(monkeypatch):
    """By the cost rules of both: a short training stays on the CPU, a long one does not."""
    pytest.importorskip("numba_cuda")
    from fastmlp.cuda import layout, trainer

    monkeypatch.setattr(trainer, "machine", layout.Machine)
    monkeypatch.setattr(devices, "cuda_problem", lambda: None)
    small = fastmlp.Network([64, 32, 10], device="auto", random_state=0)._trainer
    large = fastmlp.Network([784, 512, 256, 10], device="auto", random_state=0)._trainer
    assert devices.choose(small, 1797, 32, 100) == "cpu"
    assert devices.choose(large, 60000, 128, 1) == "cpu"
    assert devices.choose(large, 60000, 128, 500) == "cuda"


def test_auto_moves_a_network_and_its_optimizer(monkeypatch, quick_simulator):
    """A network that trains on another device goes on with its weights and moments."""
    if devices.cuda_problem() is not None:
        pytest.skip(devices.cuda_problem().message)
    X, T = np.random.default_rng(0).random((9, 2)), np.zeros((9, 1))
    answers, weights = iter(["cpu", "cuda", "cpu"]), []
    for choose in (lambda *_: next(answers), lambda *_: "cpu"):
        monkeypatch.setattr(devices, "choose", choose)
        net = fastmlp.Network([2, 3, 1], dtype="float64", device="auto", random_state=0)
        seen = []
        for _ in range(3):
            net.train(X, T, optimizer=fastmlp.Adam(0.1), batch_size=4, epochs=1)
            seen.append(net.device)
        weights.append(net.weights)
    assert seen == ["cpu"] * 3
    np.testing.assert_allclose(weights[0][0], weights[1][0], rtol=1e-12)


def test_a_network_of_a_gpu_is_loaded_without_one(monkeypatch, quick_simulator):
    """A pickle from a machine with a GPU goes on on the CPU, and says so."""
    import pickle

    if devices.cuda_problem() is not None:
        pytest.skip(devices.cuda_problem().message)
    net = fastmlp.Network([2, 3, 1], device="cuda", random_state=0)
    kept = pickle.dumps(net)
    monkeypatch.setattr(devices, "cuda_problem", lambda: devices.problem_of(devices.Probe()))
    with pytest.warns(RuntimeWarning, match="goes on on the CPU"):
        copy = pickle.loads(kept)
    assert copy.device == "cpu" and np.array_equal(copy.weights[0], net.weights[0])


def test_looking_for_a_gpu_here():
    """Without the simulator a look finds something or a reason, and "auto" trains either way."""
    code = "import fastmlp; from fastmlp import devices; print(devices.problem_of(devices.look()) is None)"
    train = "n = fastmlp.Network([2, 1], device='auto'); n.train([[0, 1]], [[1]], optimizer=fastmlp.SGD(1), epochs=1)"
    assert run_python("-W", "error", "-c", f"{code}; {train}", NUMBA_ENABLE_CUDASIM="0").strip() in ("True", "False")
