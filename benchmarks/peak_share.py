"""How near is training to the limit of the chip?"""

import statistics

from epochs import CASES, seconds_per_epoch
from machine import cores
from peak import peak
from suite import by_profile, prepared


class PeakShare:
    """Where is speed left to win? Decides which networks' kernels to work on.

    The FMA peak is measured before and after, in the same process and on as many cores; a multiply-add counts as two
    operations, and what is computed on padding does not count.
    """

    param_names = ["network", "dtype"]
    params = [by_profile(["practice-64-100-10-b200"], list(CASES)), by_profile(["float32"], ["float32", "float64"])]
    timeout = 600

    def setup(self, network, dtype):
        self.train, _ = prepared("fastmlp", CASES[network], dtype)

    def track_speed(self, network, dtype):
        seconds = statistics.median(seconds_per_epoch(self.train, samples=by_profile(1, 7)))
        return CASES[network].flops / seconds / 1e9

    track_speed.unit = "GFLOP/s"
    track_speed.pretty_name = "Speed of training"

    def track_share_of_peak(self, network, dtype):
        before = peak(cores(), dtype)
        speed = self.track_speed(network, dtype)
        return 100 * speed / ((before + peak(cores(), dtype)) / 2)

    track_share_of_peak.unit = "% of the FMA peak"
    track_share_of_peak.pretty_name = "Share of the FMA peak"
