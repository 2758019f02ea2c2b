"""How much memory does training need?"""

from epochs import CASES
from suite import EVERYONE, by_profile, prepared


class Memory:
    """Will it fit? Decides what may be kept beside the data and the weights.

    The most memory that the process ever had, the library and the random data (in float32) included.
    """

    param_names = ["network", "library"]
    params = [
        by_profile(
            ["practice-64-100-10-b200"],
            ["xor-2-8-1-b32", "practice-784-256-128-10-b128", "wide-1024x3-b256", "fullbatch-784-300-10-m10000"],
        ),
        list(EVERYONE),
    ]
    timeout = 600

    def setup(self, network, library):
        self.train, _ = prepared(library, CASES[network])

    def peakmem_train(self, network, library):
        self.train(1)
