"""Contract 4: threads, forks, joblib, signals, folders that cannot be written: each works, none ends the process."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest
from cases import run_python

import fastmlp

LAYERS = ("omp", "workqueue")

COMMON = """
import hashlib, sys, threading
import numpy as np
import fastmlp, numba

def make(seed):
    r = np.random.default_rng(seed)
    X, y = r.random((3000, 30), np.float32), r.integers(0, 3, 3000)
    return fastmlp.Network([30, 200, 3], output="softmax", loss="log_loss", random_state=seed), X, y

def fit(seed):
    net, X, y = make(seed)
    net.train(X, y, optimizer=fastmlp.Adam(), epochs=2)
    W = b"".join(w.tobytes() for w in net.weights)
    model = fastmlp.MLPClassifier((50,), max_iter=2, random_state=seed).fit(X, y)
    return hashlib.sha256(W + net.forward(X).tobytes() + model.predict_proba(X).tobytes()).hexdigest()
"""

# seeds 0 to 3, each fitted four times, all at once; then one after another
THREADS = """
import concurrent.futures, warnings
warnings.simplefilter("ignore")
barrier = threading.Barrier(16)
def one(n):
    barrier.wait()
    return fit(n % 4)
with concurrent.futures.ThreadPoolExecutor(16) as pool:
    found = list(pool.map(one, range(16)))
expected = [fit(seed) for seed in range(4)]
assert found == expected * 4, (found, expected)
"""

SHARED = """
net, X, y = make(0)
model = fastmlp.MLPClassifier((50,), max_iter=2, random_state=0).fit(X, y)
expected = [net.forward(X).tobytes(), net.forward(X[:1]).tobytes(), model.predict_proba(X).tobytes(),
            model.predict_proba(X[:5]).tobytes(), net.objective(X, y)]
def one(n):
    return [net.forward(X).tobytes(), net.forward(X[:1]).tobytes(), model.predict_proba(X).tobytes(),
            model.predict_proba(X[:5]).tobytes(), net.objective(X, y)]
with concurrent.futures.ThreadPoolExecutor(16) as pool:
    assert all(found == expected for found in pool.map(one, range(160)))
print(numba.threading_layer(), numba.get_num_threads())
"""


def run(code, layer="omp", threads="2", **environment):
    code = COMMON + code
    return run_python("-W", "ignore", "-c", code, NUMBA_THREADING_LAYER=layer, NUMBA_NUM_THREADS=threads, **environment)


@pytest.mark.parametrize("layer", LAYERS)
def test_sixteen_threads_fit_at_once_and_predict_with_one_model(layer):
    assert run(THREADS + SHARED, layer, "4").split() == [layer, "4"]


def test_sixteen_threads_compile_at_once(tmp_path):
    """From an empty cache: what several threads need is compiled once, and stands while one has its address."""
    count = """
from fastmlp.cpu import compiling
made, pointer = [], compiling.pointer
compiling.pointer = lambda signature, function: made.append((signature, function.__qualname__)) or pointer(
    signature, function)
"""
    check = """
assert len(made) >= 2
names = [name for name in made if "gather" not in name[1]]
assert len(set(names)) == len(names)
"""
    predict = "def fit(seed):\n    net, X, y = make(seed)\n    return net.forward(X).tobytes()\n"
    run(count + predict + THREADS + check, FASTMLP_CACHE_DIR=str(tmp_path))


# ---- forks ---------------------------------------------------------------------------------------------------------

FORK = """
import multiprocessing, warnings
warnings.simplefilter("ignore")
expected = fit(0)
def child(n):
    return fit(n)
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map(child, [0, 1, 0], chunksize=1) == [expected, fit(1), expected]
print(numba.threading_layer())
"""

# as gunicorn does: the model is fitted, then workers are forked; they fork again, and the parent goes on
PREFORK = """
import os, warnings
warnings.simplefilter("ignore")
net, X, y = make(0)
net.train(X, y, optimizer=fastmlp.Adam(), epochs=2)
before, h = net.weights[0].copy(), net.forward(X)
def work(depth):
    assert (net.forward(X) == h).all() == (depth == 1)  # the grandchild has what the child has trained
    net.train(X, y, optimizer=fastmlp.Adam(), epochs=2)
    if depth:
        child = os.fork()
        if child == 0:
            os._exit(0 if work(depth - 1) else 1)
        assert os.waitpid(child, 0)[1] == 0
    return True
child = os.fork()
if child == 0:
    os._exit(0 if work(1) else 1)
assert os.waitpid(child, 0)[1] == 0
assert (net.weights[0] == before).all()
net.train(X, y, optimizer=fastmlp.Adam(), epochs=2)
print("done")
"""

JOBLIB = """
import joblib, warnings
warnings.simplefilter("ignore")
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, cross_val_score
X, y = load_digits(return_X_y=True)
model = fastmlp.MLPClassifier((30,), max_iter=3, random_state=0)
expected = cross_val_score(model, X, y, cv=3)
with joblib.parallel_backend(sys.argv[1], n_jobs=3):
    assert (cross_val_score(model, X, y, cv=3) == expected).all()
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("layer", LAYERS)
def test_a_forked_child_trains_and_predicts(layer):
    """The same bits, though it may start no thread of GNU's OpenMP again."""
    assert run(FORK, layer).split() == [layer]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("layer", LAYERS)
def test_workers_forked_before_they_serve(layer):
    assert run(PREFORK, layer).split() == ["done"]


FORK_WHILE_TRAINING = """
import os, time, warnings
warnings.simplefilter("ignore")
net, X, y = make(0)
started = threading.Event()
stop = []
def train():
    net.train(X, y, optimizer=fastmlp.SGD(1e-3), epochs=10**6, callbacks=[lambda *_: started.set() or bool(stop)])
thread = threading.Thread(target=train)
thread.start()
started.wait()
for _ in range(5):
    child = os.fork()
    if child == 0:
        net.forward(X[:1])
        net.objective(X, y)
        net.train(X, y, optimizer=fastmlp.SGD(1e-3), epochs=1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    time.sleep(0.01)
stop.append(1)
thread.join()
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_fork_while_another_thread_trains():
    """The child has no such thread: it does not wait for it."""
    assert run(FORK_WHILE_TRAINING).split() == ["done"]


def test_a_fork_waits_for_a_compilation(tmp_path):
    """A thread compiles as the process is forked; the child has no such thread, and compiles by itself."""
    code = """
import multiprocessing, time
from fastmlp.cpu import compiling

def predict(seed):
    net, X, y = make(seed)
    return hashlib.sha256(net.forward(X[:1]).tobytes()).hexdigest()

begun, pointer = threading.Event(), compiling.pointer
compiling.pointer = lambda *arguments: begun.set() or pointer(*arguments)
thread = threading.Thread(target=predict, args=(0,))
thread.start()
begun.wait()
time.sleep(0.1)
with multiprocessing.get_context("fork").Pool(1) as pool:
    found = pool.map(predict, [1])[0]
thread.join()
assert found == predict(1)
print("done")
"""
    assert run(code, FASTMLP_CACHE_DIR=str(tmp_path)).split() == ["done"]


@pytest.mark.parametrize("backend", ["multiprocessing", "threading"])
def test_joblib(backend):
    """Those that test_clusters.py leaves out."""
    assert run_python("-W", "ignore", "-c", COMMON + JOBLIB, backend).split() == ["done"]


# ---- parallel regions within others --------------------------------------------------------------------------------

NESTED = """
import warnings
warnings.simplefilter("ignore")
net, X, y = make(0)
expected = net.forward(X)
model = fastmlp.MLPClassifier((20,), max_iter=2, random_state=0).fit(X, y)
labels, jit_predict = model.predict(X), model.jit_predict_

def python_side(n):
    assert (net.forward(X) == expected).all()
    one, _, _ = make(int(n))
    one.train(X, y, optimizer=fastmlp.SGD(0.1), epochs=1)

@numba.njit(parallel=True)
def in_object_mode(times):
    for n in numba.prange(times):
        with numba.objmode():
            python_side(n)

@numba.njit(parallel=True)
def in_compiled_code(X, times):
    right = 0
    for n in numba.prange(times):
        right += (jit_predict(X) == labels).all()
    return right

in_object_mode(8)
assert in_compiled_code(X, 8) == 8
assert (net.forward(X) == expected).all()
print(numba.threading_layer())
"""


@pytest.mark.parametrize("layer", LAYERS)
def test_within_the_users_prange(layer):
    assert run(NESTED, layer, "3").split() == [layer]


def test_calls_at_once_get_parts_of_the_threads(monkeypatch):
    from fastmlp.cpu import threads

    assert threads.may_be_parallel()
    with threads.ThreadShare(8) as first:
        with threads.ThreadShare(8) as second, threads.ThreadShare(8) as third, threads.ThreadShare(1) as single:
            assert (first, second, third, single) == (8, 4, 2, 1)
        with threads.ThreadShare(1), threads.ThreadShare(8) as again:
            assert again == 4
        monkeypatch.setattr(threads, "_layer", lambda: "workqueue")
        with threads.ThreadShare(8) as alone:
            assert alone == 1
    with threads.ThreadShare(8) as all_of_them:
        assert all_of_them == 8


# ---- Ctrl-C --------------------------------------------------------------------------------------------------------

# Works of half a minute, and a signal to the process after half a second.
INTERRUPT = """
import signal, os
signal.signal(signal.SIGINT, signal.default_int_handler)  # a process started in the background ignores it
X = np.zeros((400_000, 1), np.float32)
y = np.zeros(len(X), np.int64)
small = slice(0, 300)

def interrupt_soon():
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()

def check(what):
    if what == "train":
        net = fastmlp.Network([1, 1500, 1500, 2], output="softmax", loss="log_loss", random_state=0)
        net.train(X[small], y[small], optimizer=fastmlp.SGD(1e-3), epochs=1)
        before = net.weights[1].copy()
        interrupt_soon()
        history = net.train(X, y, optimizer=fastmlp.SGD(1e-3), epochs=1)
        assert (history.stopped, history.n_epochs) == ("interrupted", 0)
        assert (net.weights[1] != before).any() and np.isfinite(net.forward(X[:5])).all()
        net.train(X[small], y[small], optimizer=fastmlp.SGD(1e-3), epochs=1)
    elif what in ("sgd", "gd", "lbfgs"):
        model = fastmlp.MLPClassifier((1500, 1500), solver=what, max_iter=1)
        model.fit(X[small], y[small])
        interrupt_soon()
        model.fit(X, y)  # checked in less time than that
        assert np.isfinite(model.predict_proba(X[:5])).all() and model.n_iter_ == 0
    else:
        net = fastmlp.Network([1, 1500, 1500, 2], random_state=0)
        net.forward(X[small])
        net.objective(X[small], np.zeros((300, 2)))
        interrupt_soon()
        try:
            net.forward(X) if what == "forward" else net.objective(X, np.zeros((len(X), 2)))
        except KeyboardInterrupt:
            pass
        else:
            raise SystemExit(f"{what} went on to its end")
        net.forward(X[:5])

for what in sys.argv[1:]:
    check(what)
print("done")
"""


@pytest.mark.parametrize("what", ["train forward objective", "sgd gd lbfgs"], ids=["network", "classifier"])
def test_ctrl_c_is_heard_within_an_epoch(what):
    """Each work would take far longer; what is left is a model."""
    assert run_python("-W", "ignore", "-c", COMMON + INTERRUPT, *what.split()).split() == ["done"]


# ---- the cache of compiled kernels ---------------------------------------------------------------------------------

# A kernel that is soon compiled, and its result.
COMPILE = """
import numpy as np
import fastmlp
from fastmlp.cpu.epoch import compiled_shuffle
from fastmlp.cpu.compiling import callable_at
order = np.empty(9, np.int64)
callable_at(compiled_shuffle().address, 4)(order.ctypes.data, 0, 9, 1)
print(order)
"""

# Kernels that both dtypes have, of different types: predict_plain and gather_dense.
FORWARD = """
import numpy as np
import fastmlp
from fastmlp.cpu.gather import gather_kernel
from fastmlp.cpu.prediction import PlainPrediction
for real in (np.dtype(np.float32), np.dtype(np.float64)):
    gather_kernel("dense", real, real)
    W, b = np.ones((3, 2), real), np.zeros(2, real)
    print(PlainPrediction([W], [b], "relu", "logistic", real)(np.ones((2, 3), real)).tolist())
"""


def python(code, folder=None, *arguments, **environment):
    """A process that is running, its output to be read."""
    sources = os.path.dirname(os.path.dirname(fastmlp.__file__))
    environment = {**os.environ, "PYTHONPATH": sources, **environment}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", code, *arguments], env=environment, cwd=folder, **pipes)


def test_processes_that_start_at_once_with_an_empty_cache(tmp_path):
    """All succeed, with both dtypes in each; a later one finds whole files, which no two signatures share."""
    folder = {"FASTMLP_CACHE_DIR": str(tmp_path)}
    processes = [python(FORWARD, **folder) for _ in range(3)]
    found = [(*process.communicate(), process.returncode) for process in processes]
    assert all(one == found[0] for one in found) and found[0][1:] == ("", 0), found
    recorder = "from numba.core import event\nwith event.install_recorder('numba:compile') as recorder:\n"
    indented = FORWARD.replace("\n", "\n    ")
    again = run_python("-c", f"{recorder}    {indented}\nassert not recorder.buffer, len(recorder.buffer)", **folder)
    assert again == found[0][0]
    names = os.listdir(next(pathlib.Path(tmp_path, "fastmlp").iterdir()))
    assert len(names) == 8 and all(name.endswith((".1.nbc", ".nbi")) and "tmp" not in name for name in names)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """A cache with one kernel, and what the process that compiled it printed."""
    folder = tmp_path_factory.mktemp("compiled")
    return folder, run_python("-c", COMPILE, FASTMLP_CACHE_DIR=str(folder))


@pytest.mark.parametrize("content", [b"", b"garbage", None], ids=["empty", "garbage", "cut"])
def test_damaged_cache_files_cost_a_compilation(content, compiled, tmp_path):
    folder = {"FASTMLP_CACHE_DIR": str(tmp_path)}
    whole, expected = compiled
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    for number, path in enumerate(sorted(tmp_path.rglob("*.nb?"))):
        if number % 2 == 0 or content is None:
            path.write_bytes(path.read_bytes()[:-100] if content is None else content)
    for _ in range(2):
        assert run_python("-W", "error", "-c", COMPILE, **folder) == expected


# The keys of the package as it is, of other versions, and after each change of a file.
KEYS = """
import pathlib, sys
import numba, numpy
from fastmlp.cpu import compiling

def keep(key=compiling.cache_key.__wrapped__):
    print(key())

keep()
for module in (numba, numpy):
    version, module.__version__ = module.__version__, "9.9.9"
    keep()
    module.__version__ = version
for path in sys.argv[1:]:
    with open(pathlib.Path(path), "a") as file:
        file.write("# a comment\\n")
    keep()
"""


def test_the_key_follows_sources_compiler_and_processor(tmp_path):
    """A copy of the package with another comment in one file of the kernels has a key of its own, and so has another
    processor; the files that are not compiled do not matter.
    """
    package = tmp_path / "fastmlp"
    shutil.copytree(pathlib.Path(fastmlp.__file__).parent, package)

    def keys(*changed, **environment):
        paths = [str(package / name) for name in changed]
        process = python(KEYS, tmp_path, *paths, PYTHONPATH=str(tmp_path), **environment)
        shown, errors = process.communicate()
        assert errors == ""
        return shown.split()

    own, *others = keys()
    assert own == run_python("-c", KEYS).split()[0]  # not the folder, but what is in it
    others += keys(NUMBA_CPU_NAME="haswell")[:1] + keys(NUMBA_CPU_FEATURES="+sse2")[:1]
    again, *_, estimators, cuda, formulas, codes, forward = keys(
        "estimators.py", "cuda/forward.py", "formulas.py", "codes.py", "cpu/forward.py"
    )
    assert own == again == estimators == cuda
    distinct = {own, *others, formulas, codes, forward}
    assert len(distinct) == 8 and {len(key) for key in distinct} == {16}


# A file stands where a folder is wanted, which not even root can write to.
UNWRITABLE = {name: "/dev/null" for name in ("HOME", "XDG_CACHE_HOME", "FASTMLP_CACHE_DIR", "NUMBA_CACHE_DIR")}


@pytest.mark.skipif(not os.path.exists("/dev/null"), reason="there is no /dev/null here")
def test_a_home_that_cannot_be_written(compiled, tmp_path):
    """Kernels are kept in the temporary folder; one warning says so."""
    process = python(COMPILE, **UNWRITABLE, TMPDIR=str(tmp_path))
    shown, errors = process.communicate()
    assert process.returncode == 0 and shown == compiled[1]
    assert errors.count("RuntimeWarning") == 1 and f"kept in {tmp_path}" in errors, errors
    assert "/dev/null/fastmlp cannot be written" in errors and list(tmp_path.rglob("*.nbc"))


@pytest.mark.skipif(not os.path.exists("/dev/null"), reason="there is no /dev/null here")
def test_nowhere_to_write(compiled):
    """No folder at all, not even a temporary one: everything is compiled in memory; one warning says so."""
    nowhere = "import tempfile\ndef fail():\n    raise FileNotFoundError('no usable temporary directory')\n"
    process = python(nowhere + "tempfile.gettempdir = fail\n" + COMPILE + "fastmlp.show_versions()", **UNWRITABLE)
    shown, errors = process.communicate()
    assert process.returncode == 0, errors
    assert shown.startswith(compiled[1]) and "compiled kernels in memory only" in shown
    assert errors.count("RuntimeWarning") == 1 and "compiled in every process" in errors, errors


def test_a_cache_on_a_full_disk(compiled, tmp_path):
    """What cannot be kept is said once, and training goes on."""
    full = """
import os, errno
from numba.core import caching
def save(self, key, data):
    raise OSError(errno.ENOSPC, "No space left on device")
caching.IndexDataCacheFile.save = save
"""
    process = python(full + COMPILE, FASTMLP_CACHE_DIR=str(tmp_path))
    shown, errors = process.communicate()
    assert process.returncode == 0 and shown == compiled[1]
    assert errors.count("RuntimeWarning") == 1 and "No space left on device" in errors, errors


def test_another_users_folder_is_not_used(tmp_path, monkeypatch):
    """What somebody else has put into a folder that all may write to must not be run."""
    from fastmlp.cpu import compiling

    if not hasattr(os, "getuid"):
        pytest.skip("this system has no user numbers")
    assert compiling._is_ours_to_write(tmp_path / "a")
    monkeypatch.setattr(os, "getuid", lambda: tmp_path.stat().st_uid + 1)
    assert not compiling._is_ours_to_write(tmp_path / "a")
