"""How long does one wait before anything is trained?"""

import json
import os
import statistics
import subprocess
import sys
import tempfile

from suite import by_profile

IMPORT = """
import json, time
start = time.perf_counter()
import numba
middle = time.perf_counter()
import fastmlp
print(json.dumps([middle - start, time.perf_counter() - middle]))
"""

FIRST_TRAINING = """
import json, time
import numpy as np
start = time.perf_counter()
import fastmlp
X, T = np.random.rand(320, 64).astype("DTYPE"), np.random.rand(320, 10).astype("DTYPE")
net = fastmlp.Network([64, 32, 10], dtype="DTYPE", device="cpu", random_state=0)
net.train(X, T, optimizer=fastmlp.SGD(0.1), batch_size=32, epochs=1)
print(json.dumps(time.perf_counter() - start))
"""


def seconds(code, **variables):
    """What a new Python process prints last when it runs the code."""
    child = subprocess.run([sys.executable, "-c", code], env=os.environ | variables, capture_output=True, text=True)
    if child.returncode:
        raise RuntimeError(child.stderr)
    return json.loads(child.stdout.splitlines()[-1])


class Import:
    """Can a command-line tool afford `import fastmlp`? Decides what is imported only when it is used.

    Numba, which has to be imported in any case, is measured apart.
    """

    param_names = ["what"]
    params = [["numba", "fastmlp after numba"]]
    timeout = 300

    def track_import(self, what):
        seconds(IMPORT)  # fills the disk's cache
        times = [seconds(IMPORT)[what != "numba"] for _ in range(by_profile(1, 7))]
        return statistics.median(times)

    track_import.unit = "seconds"
    track_import.pretty_name = "Import"


class FirstTraining:
    """How long does the first user wait, and the second? Decides how much code the compiler may be given.

    Import and one epoch of a network 64-32-10, in a new process, with an empty kernel cache or one that is filled.
    """

    param_names = ["kernel cache", "dtype"]
    params = [["empty", "filled"], by_profile(["float32"], ["float32", "float64"])]
    timeout = 600

    def track_first_training(self, cache, dtype):
        code = FIRST_TRAINING.replace("DTYPE", dtype)
        times = []
        for _ in range(by_profile(1, 3)):
            with tempfile.TemporaryDirectory() as folder:
                times.append(seconds(code, FASTMLP_CACHE_DIR=folder))
                if cache == "filled":
                    times[-1] = seconds(code, FASTMLP_CACHE_DIR=folder)
        return statistics.median(times)

    track_first_training.unit = "seconds"
    track_first_training.pretty_name = "First training"
