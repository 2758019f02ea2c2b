"""How long does an epoch take, beside each peer, and how does that change with the network and its minibatches?

Random data; every call trains one shuffled epoch. The recipes are those of epochs.py: "lecture" (logistic units,
squared error, SGD) and "practice" (ReLU, softmax and cross-entropy, Adam).
"""

import math

from epochs import CASES, Case
from machine import cores
from suite import EVERYONE, RIVALS, Timed, by_profile, prepared

RECIPES = ["lecture", "practice"]
EPOCH_FLOPS = 2e8  # about: so that what a call costs beside its epoch does not show
MOST_EXAMPLES = 51200


def case_of(width, hidden_layers, batch, recipe):
    """A network of layers of one width, and as many examples as make an epoch of about EPOCH_FLOPS."""
    case = Case((width,) * (hidden_layers + 1) + (10,), batch, batch, recipe)
    minibatches = min(max(8, math.ceil(EPOCH_FLOPS / case.flops)), MOST_EXAMPLES // batch)
    return case._replace(examples=minibatches * batch)


class Networks(Timed):
    """Which library trains a network like mine fastest? Decides whether fastmlp is worth the change.

    The ten networks of peers.py, from 2-8-1 to 1024-1024-1024-10.
    """

    param_names = ["library", "network"]
    params = [list(EVERYONE), by_profile(["xor-2-8-1-b32", "practice-64-100-10-b200"], list(CASES))]

    def setup(self, library, network):
        self.train, _ = prepared(library, CASES[network])

    def time_epoch(self, library, network):
        self.train(1)

    time_epoch.pretty_name = "Epoch of ten networks"


class Width(Timed):
    """From which width on does a library pay, and up to which? Decides where the kernels need work.

    Two hidden layers, as wide as the inputs, minibatches of 128.
    """

    param_names = ["library", "units a layer", "recipe"]
    params = [RIVALS, by_profile([64], [16, 64, 256, 1024]), RECIPES]

    def setup(self, library, width, recipe):
        self.train, _ = prepared(library, case_of(width, 2, 128, recipe))

    def time_epoch(self, library, width, recipe):
        self.train(1)

    time_epoch.pretty_name = "Epoch, by width"


class Depth(Timed):
    """What does another layer cost? Decides whether a layer's fixed costs (barriers, calls) matter.

    Layers of 128 units, minibatches of 128.
    """

    param_names = ["library", "hidden layers", "recipe"]
    params = [RIVALS, by_profile([1], [1, 2, 4, 8]), by_profile(["practice"], RECIPES)]

    def setup(self, library, hidden_layers, recipe):
        self.train, _ = prepared(library, case_of(128, hidden_layers, 128, recipe))

    def time_epoch(self, library, hidden_layers, recipe):
        self.train(1)

    time_epoch.pretty_name = "Epoch, by depth"


class BatchSize(Timed):
    """How small may minibatches be before overhead eats the epoch? Decides what batch sizes to recommend.

    Two hidden layers of 128 units.
    """

    param_names = ["library", "examples a minibatch", "recipe"]
    params = [RIVALS, by_profile([32], [8, 32, 128, 512]), by_profile(["practice"], RECIPES)]

    def setup(self, library, batch, recipe):
        self.train, _ = prepared(library, case_of(128, 2, batch, recipe))

    def time_epoch(self, library, batch, recipe):
        self.train(1)

    time_epoch.pretty_name = "Epoch, by minibatch size"


class ThreadsAndPrecision(Timed):
    """What do a second thread and single precision bring? Decides the defaults of both.

    Two hidden layers of 256 units, minibatches of 128.
    """

    param_names = ["library", "threads", "dtype", "recipe"]
    params = [
        RIVALS,
        sorted({1, cores()}),
        by_profile(["float64"], ["float32", "float64"]),
        by_profile(["practice"], RECIPES),
    ]

    def setup(self, library, threads, dtype, recipe):
        self.train, _ = prepared(library, case_of(256, 2, 128, recipe), dtype, threads)

    def time_epoch(self, library, threads, dtype, recipe):
        self.train(1)

    time_epoch.pretty_name = "Epoch, by threads and precision"
