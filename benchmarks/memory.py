"""How much memory does training need?"""

import subprocess
import sys

from epochs import CASES
from suite import EVERYONE, by_profile, prepared


class Memory:
    """Will it fit? Decides what may be kept beside the data and the weights.

    The most memory that the process ever had, the library and the random data (in float32) included, but not
    fastmlp's compiler: another process has filled the kernel cache.
    """

    param_names = ["library", "network"]
    params = [
        list(EVERYONE),
        by_profile(
            ["practice-64-100-10-b200"],
            ["xor-2-8-1-b32", "practice-784-256-128-10-b128", "wide-1024x3-b256", "fullbatch-784-300-10-m10000"],
        ),
    ]
    timeout = 600

    def setup(self, library, network):
        if library == "fastmlp":
            subprocess.run([sys.executable, "-c", "import fastmlp; fastmlp.warmup()"], check=True)
        self.train, _ = prepared(library, CASES[network])

    def peakmem_train(self, library, network):
        self.train(1)

    peakmem_train.pretty_name = "Memory of training"
