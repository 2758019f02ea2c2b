"""Does a problem ten times larger take ten times longer?"""

import statistics

import numpy as np

from epoch_time import case_of
from epochs import Case, seconds_per_epoch
from suite import RIVALS, by_profile, prepared

STEPS = {
    "examples": [Case((64, 128, 10), 128, 128 * k, "practice") for k in (32, 64, 128, 256, 512)],
    "width": [case_of(width, 2, 128, "practice")._replace(examples=2560) for width in (128, 256, 512, 1024)],
    "depth": [case_of(128, layers, 128, "practice")._replace(examples=5120) for layers in (2, 4, 8, 16)],
}


class Growth:
    """How does time grow with examples, width and depth? Decides whether anything but arithmetic has begun to count.

    The slope of log time over log size: 1 is proportional to the examples and, nearly, to the depth, 2 to the width.
    """

    param_names = ["library", "of"]
    params = [RIVALS, list(STEPS)]
    timeout = 900

    def setup(self, library, of):
        prepared(library, STEPS[of][0])

    def track_exponent(self, library, of):
        cases = by_profile(STEPS[of][:3:2], STEPS[of])
        sizes = {"examples": lambda c: c.examples, "width": lambda c: c.sizes[0], "depth": lambda c: len(c.sizes) - 2}
        times = []
        for case in cases:
            train, _ = prepared(library, case)
            times.append(statistics.median(seconds_per_epoch(train, by_profile(1, 3), by_profile(0.05, 0.2))))
        return float(np.polyfit(np.log([sizes[of](case) for case in cases]), np.log(times), 1)[0])

    track_exponent.unit = "exponent"
    track_exponent.pretty_name = "Growth of time"
