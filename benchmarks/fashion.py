"""Is what is trained so fast also right, and who is there first?

Fashion-MNIST: 60,000 images of clothes, a network 784-128-10 (ReLU, softmax), Adam, minibatches of 128, float32. All
start from the same weights but scikit-learn's, which draws its own.
"""

import functools
import time

import numpy as np

from epochs import FashionMNIST
from suite import RIVALS, accuracy, by_profile, prepared

CASE = FashionMNIST((784, 128, 10), 128, by_profile(12800, 60000), "practice")
EPOCHS = by_profile(1, 5)
GOAL = by_profile(70, 87)  # % of the test images


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
    params = [RIVALS]
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

    def track_seconds_to_accuracy(self, library):
        epochs, seconds = 1, 0.0
        while epochs < 2 or (self._accuracy() < GOAL and epochs < 30):
            start = time.perf_counter()
            self.train(1)
            seconds += time.perf_counter() - start
            epochs += 1
        # the first epoch warmed up: it is counted as long as the mean of the others
        return seconds * epochs / (epochs - 1) if self._accuracy() >= GOAL else float("nan")

    track_seconds_to_accuracy.unit = "seconds"
