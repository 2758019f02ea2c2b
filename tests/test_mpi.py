"""mpi.py: one network on several ranks does what one process does; ranks.py is what the ranks run."""

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mpi4py")

import fastmlp  # noqa: E402
from fastmlp import devices, mpi  # noqa: E402

HERE = Path(__file__).parent
MPIEXEC = shutil.which("mpiexec", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""))))
CHECKS = (
    "full_batch,minibatches,buckets,lbfgs,repeated,starts_from_rank_0,between_epochs,checkpoints,estimators,"
    "refusals"
)


def launch(ranks, checks, folder, *options):
    """Run some of the checks of ranks.py on so many ranks, with options of Python's."""
    if MPIEXEC is None:
        pytest.skip("mpiexec is not installed")
    environment = {
        **os.environ,
        "PYTHONPATH": str(HERE.parent),
        "NUMBA_NUM_THREADS": "1",
        # ranks that wait leave the processor to others: there are more of them than processors
        "MPIR_CVAR_CH4_PROGRESS_THROTTLE": "1",
    }
    command = [MPIEXEC, "-n", str(ranks), sys.executable, *options, str(HERE / "ranks.py"), checks, str(folder)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_ranks_do_what_one_process_does(ranks, tmp_path):
    done = launch(ranks, CHECKS, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split() == [word for name in CHECKS.split(",") for word in ("did", name)]


@pytest.mark.skipif(bool(devices.precision_problem("bf16", "cpu")), reason="the processor has no AVX512-BF16")
def test_ranks_in_bf16_do_what_one_process_does(tmp_path):
    done = launch(3, "lower_precision", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_rank_that_is_killed_ends_all_and_the_checkpoint_stands(tmp_path):
    done = launch(3, "dies", tmp_path)
    assert done.returncode != 0
    assert "signal 9" in (done.stdout + done.stderr).lower()
    rng = np.random.default_rng(0)
    X, T = rng.standard_normal((203, 9)), rng.random((203, 4))
    settings = {"activation": "tanh", "l2": 0.01, "dtype": "float64", "init": "glorot", "random_state": 3}
    arguments = {"optimizer": fastmlp.Adam(0.01), "batch_size": 16, "epochs": 8}
    nets = fastmlp.Network([9, 21, 4], **settings), fastmlp.Network([9, 21, 4], **settings)
    seen = []
    path = tmp_path / "killed.fastmlp"
    nets[0].train(X, T, checkpoint=path, callbacks=[lambda net, history: seen.append(history.n_epochs)], **arguments)
    assert seen == [4, 5, 6, 7, 8]
    nets[1].train(X, T, **arguments)
    for a, b in zip(nets[0].weights, nets[1].weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_an_error_in_the_middle_of_an_epoch_ends_all_ranks_and_says_which(tmp_path):
    done = launch(3, "fails_in_an_epoch", tmp_path)
    assert done.returncode != 0
    assert "fastmlp: rank 1 cannot go on (MemoryError: none left); all 3 ranks end" in done.stderr


def test_an_error_outside_of_train_ends_all_ranks_under_mpi4py(tmp_path):
    """README's command; without -m mpi4py the others would wait for the rank that has gone."""
    done = launch(2, "fails_elsewhere", tmp_path, "-m", "mpi4py")
    assert done.returncode != 0
    assert "FileNotFoundError: no part for rank 1" in done.stderr


def test_without_mpi4py_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    net = fastmlp.Network([2, 1])
    with pytest.raises(ImportError, match=r"pip install 'fastmlp\[mpi\]'"):
        net.train(np.ones((3, 2)), np.ones((3, 1)), optimizer=fastmlp.SGD(0.1), comm="world")


def test_a_process_alone_asks_nobody():
    with mpi.together(None) as ranks:
        assert ranks is mpi.ALONE
        assert (ranks.shard(5), ranks.total(3.0), ranks.gather(lambda: 2)) == (mpi.Shard(0, 5, 5), 3.0, [2])


def test_the_benchmarks_model(monkeypatch):
    """A message has two stages and is hidden, if at all, behind the layers below the first bucket."""
    monkeypatch.syspath_prepend(HERE.parent / "benchmarks")
    model = importlib.import_module("mpi")
    link = {"latency": 1.0, "each": 0.5, "bandwidth": 10.0, "adding": 30.0, "overlap": 0.0, "calls": 2.0}
    assert model.message_seconds(40, 4, link) == 2 * (1.0 + 2 * 0.5 + 40 * 3 / 40) + 3 * 40 / 30
    assert model.step_seconds(7.0, 5.0, [40, 40], 1, link) == 7.0
    assert model.step_seconds(7.0, 5.0, [40, 40], 4, link) == 7.0 + 2 * 2.0 + 2 * 14.0
    assert model.step_seconds(7.0, 5.0, [40, 40], 4, link | {"overlap": 1.0}) == 7.0 + 2 * 2.0 + 2 * 14.0 - 5.0
    # backward and accumulation of 2 of 6 layers' products, where nothing is sent back to the inputs
    assert model.below_share((3, 4, 5, 2), 2) == (4 * 12 - 2 * 12) / (6 * 42 - 2 * 12)
