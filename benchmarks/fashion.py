"""Is what is trained so fast also right, and who is there first?

Fashion-MNIST: 60,000 images of clothes, a network 784-128-10 (ReLU, softmax), Adam, minibatches of 100, float32. All
start from the same weights but scikit-learn, which draws its own; its moments start anew with each call.
"""

import functools
import time

import numpy as np

from epochs import FashionMNIST
from suite import EVERYONE, accuracy, by_profile, prepared

CASE = FashionMNIST((784, 128, 10), 100, by_profile(10000, 60000), "practice")
FULL_EPOCHS, FULL_GOAL = 5, 87  # the latter in % of the test images
EPOCHS, GOAL = by_profile(1, FULL_EPOCHS), by_profile(70, FULL_GOAL)
MOST_EPOCHS = 30


@functools.cache
def test_images():
    """(X, y) of the 10,000 test images; left out where there are none."""
    try:
        from fastmlp.datasets import load_fashion_mnist

        *_, X, y = load_fashion_mnist()
    except (ImportError, OSError) as error:
        raise NotImplementedError(f"Fashion-MNIST is left out: {error}") from None
    return X.astype(np.float32) / 255, y


class Fashion:
    """Is speed bought with wrong training? Decides whether any figure of this suite may be believed."""

    param_names = ["library"]
    params = [list(EVERYONE)]
    timeout = 900

    def setup(self, library):
        test_images()
        self.train, self.parameters = prepared(library, CASE)  # with its first epoch

    def _accuracy(self):
        return 100 * accuracy(*self.parameters(), *test_images())

    def track_accuracy_after_epochs(self, library):
        if EPOCHS > 1:
            self.train(EPOCHS - 1)
        return self._accuracy()

    track_accuracy_after_epochs.unit = "% of test images right"

    track_accuracy_after_epochs.pretty_name = "Fashion-MNIST: test images right after some epochs"

    def track_seconds_to_accuracy(self, library):
        # the first epoch warmed up: it is counted as long as the mean of the others
        epochs, seconds = 1, 0.0
        while epochs < 2 or self._accuracy() < GOAL:
            if epochs == MOST_EPOCHS:
                raise RuntimeError(f"{self._accuracy():.1f} % are right after {epochs} epochs, not {GOAL} %")
            start = time.perf_counter()
            self.train(1)
            seconds += time.perf_counter() - start
            epochs += 1
        return seconds * epochs / (epochs - 1)

    track_seconds_to_accuracy.unit = "seconds"
    track_seconds_to_accuracy.pretty_name = "Fashion-MNIST: time until enough test images are right"
