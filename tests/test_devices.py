"""What "cuda" and "auto" mean on machines with and without a GPU."""

import warnings

import numpy as np
import pytest
from cases import refused, run_python

import fastmlp
from fastmlp import devices

GOOD = devices.Probe(True, True, 1, "NVIDIA H100", (9, 0), 13000, 13050)


@pytest.fixture
def found(monkeypatch):
    """found(probe): what a look for a GPU finds from here on."""

    def find(probe):
        monkeypatch.setattr(devices, "look", lambda: probe)
        monkeypatch.setattr(devices, "_simulated", lambda: False)
        devices.visible_problem.cache_clear()

    yield find
    devices.visible_problem.cache_clear()


@pytest.mark.parametrize(
    ("probe", "there", "fragments"),
    [
        (devices.Probe(), False, ("not installed", "fastmlp[cuda]")),
        (devices.Probe(installed=True), False, ("no NVIDIA driver", "libcuda")),
        (devices.Probe(installed=True, driver=True), False, ("sees no GPU",)),
        (devices.Probe(installed=True, broken="no module\nnamed x"), False, ("no module named x", "fastmlp[cuda]")),
        (GOOD._replace(broken="no nvrtc"), True, ("no nvrtc", "fastmlp[cuda]")),
        (GOOD._replace(driver_version=11080), True, ("CUDA 11.8", "newer driver")),
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


def test_cuda_without_a_gpu_is_an_error(found):
    """Networks and estimators refuse device="cuda" in words."""
    found(devices.Probe(installed=True))
    with refused("device is 'cuda'", "no NVIDIA driver", "'cpu' and 'auto' are allowed"):
        fastmlp.Network([2, 3, 1], device="cuda")
    X, y = np.eye(4), [0, 1, 0, 1]
    with refused("device is 'cuda'", "no NVIDIA driver"):
        fastmlp.MLPClassifier((3,), device="cuda").fit(X, y)


def test_a_forked_process_says_so(monkeypatch, found):
    """CUDA cannot be used in a child that was forked after the GPU was started."""
    found(GOOD)
    assert devices.visible_problem() is None
    monkeypatch.setattr(devices, "_looked_in", [-1])
    with refused("device is 'cuda'", "forked", "spawn"):
        fastmlp.Network([2, 3, 1], device="cuda")


@pytest.mark.parametrize(
    "probe", [devices.Probe(), devices.Probe(installed=True), GOOD._replace(capability=(5, 0), name="of a test")]
)
def test_auto_without_a_usable_gpu(monkeypatch, found, probe):
    """ "auto" is silent without a driver, explains once where a GPU is there, and trains on the CPU."""
    found(probe)
    monkeypatch.setattr(devices, "COMPILE_SECONDS", 0.0)  # no training is too short
    X, T = np.random.default_rng(0).random((9, 2)), np.zeros((9, 1))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            net = fastmlp.Network([2, 3, 1], device="auto", random_state=0)
            net.train(X, T, optimizer=fastmlp.SGD(0.1), epochs=1)
            fastmlp.MLPRegressor(hidden_layer_sizes=(3,), max_iter=1, device="auto", n_iter_no_change=1).fit(X, X)
            assert net.device == "cpu"
    said = [w for w in caught if "device='auto'" in str(w.message)]
    assert len(said) == (probe.devices > 0) and all("of a test" in str(w.message) for w in said)


def test_auto_takes_the_gpu_where_the_work_is_worth_it(monkeypatch, found):
    """By the cost rules of both: a short training stays on the CPU, a long one does not."""
    pytest.importorskip("numba_cuda")
    from fastmlp.cuda import layout, trainer

    started = []
    monkeypatch.setattr(trainer, "machine", layout.Machine)
    found(GOOD)
    monkeypatch.setattr(devices, "_start", lambda: started.append(1))  # it has no problem
    monkeypatch.setattr(trainer._data, "free_bytes", lambda: 80 * 10**9)
    small = fastmlp.Network([64, 32, 10], device="auto", random_state=0)._trainer
    large = fastmlp.Network([784, 512, 256, 10], device="auto", random_state=0)._trainer
    assert devices.choose(small, 1797, 32, 100) == "cpu"
    assert devices.choose(large, 60000, 128, 1) == "cpu" and not started
    assert devices.choose(large, 60000, 128, 500) == "cuda"
    monkeypatch.setattr(trainer._data, "free_bytes", lambda: 10**6)
    assert devices.choose(large, 60000, 128, 500) == "cpu"


def test_auto_moves_a_network_and_its_optimizer(monkeypatch, quick_simulator):
    """A network that trains on another device goes on with its weights and moments."""
    if devices.cuda_problem() is not None:
        pytest.skip(devices.cuda_problem().message)
    X, T = np.random.default_rng(0).random((9, 2)), np.zeros((9, 1))
    answers, weights, moved = iter(["cpu", "cuda", "cpu"]), [], []
    for choose in (lambda *_: next(answers), lambda *_: "cpu"):
        monkeypatch.setattr(devices, "choose", choose)
        net = fastmlp.Network([2, 3, 1], dtype="float64", device="auto", random_state=0)
        seen = []
        for _ in range(3):
            net.train(X, T, optimizer=fastmlp.Adam(0.1), batch_size=4, epochs=1)
            seen.append(net.device)
        weights.append(net.weights)
        moved.append(seen)
    assert moved == [["cpu", "cuda", "cpu"], ["cpu"] * 3]
    np.testing.assert_allclose(weights[0][0], weights[1][0], rtol=1e-12)


def test_a_network_of_a_gpu_is_loaded_without_one(found, quick_simulator):
    """A pickle from a machine with a GPU goes on on the CPU, and says so."""
    import pickle

    if devices.cuda_problem() is not None:
        pytest.skip(devices.cuda_problem().message)
    net = fastmlp.Network([2, 3, 1], device="cuda", random_state=0)
    kept = pickle.dumps(net)
    found(devices.Probe())
    with pytest.warns(RuntimeWarning, match="goes on on the CPU"):
        copy = pickle.loads(kept)
    assert copy.device == "cpu" and np.array_equal(copy.weights[0], net.weights[0])


def test_looking_for_a_gpu_here():
    """Without the simulator a look finds something or a reason, and "auto" trains either way."""
    code = "import fastmlp; from fastmlp import devices; print(devices.problem_of(devices.look()) is None)"
    train = "n = fastmlp.Network([2, 1], device='auto'); n.train([[0, 1]], [[1]], optimizer=fastmlp.SGD(1), epochs=1)"
    assert run_python("-W", "error", "-c", f"{code}; {train}", NUMBA_ENABLE_CUDASIM="0").strip() in ("True", "False")


def test_an_estimator_of_a_gpu_predicts_without_one(found, quick_simulator):
    """A classifier that was fitted on a GPU predicts on the CPU where there is none, and says so."""
    if devices.cuda_problem() is not None:
        pytest.skip(devices.cuda_problem().message)
    X = np.random.default_rng(0).random((600, 2))
    model = fastmlp.MLPRegressor(hidden_layer_sizes=(3,), max_iter=1, batch_size=600, device="cuda", random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = model.fit(X, X).set_params(device="cpu").predict(X)
    found(devices.Probe())
    with pytest.warns(RuntimeWarning, match="predicting on the CPU"):
        np.testing.assert_array_equal(model.set_params(device="cuda").predict(X), expected)


def test_partial_fit_goes_where_the_device_says(quick_simulator):
    """The trainer that partial_fit keeps is left when the device is another; the moments go along."""
    if devices.cuda_problem() is not None:
        pytest.skip(devices.cuda_problem().message)
    X = np.random.default_rng(0).random((12, 2))
    model, twin = (fastmlp.MLPRegressor(hidden_layer_sizes=(3,), random_state=0) for _ in range(2))
    for device in ("cpu", "cuda", "cuda", "cpu"):
        model.set_params(device=device).partial_fit(X, X)
        twin.partial_fit(X, X)
        assert type(model._optimizer.trainer) is devices.trainer_class(device)
    np.testing.assert_allclose(model.coefs_[0], twin.coefs_[0], rtol=1e-10)
