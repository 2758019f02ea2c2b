"""How much faster than scikit-learn's are fastmlp's estimators, for those who change one import?"""

import functools
import warnings

import numpy as np

from machine import cores
from suite import Timed, by_profile, limited

LIBRARIES = ["fastmlp", "sklearn"]
DTYPES = by_profile(["float32"], ["float32", "float64"])


def classifier(library, **settings):
    """The library's MLPClassifier."""
    limited(cores())
    warnings.simplefilter("ignore")  # they do not converge in so few epochs
    if library == "fastmlp":
        import fastmlp

        if not hasattr(fastmlp, "MLPClassifier"):
            raise NotImplementedError("this fastmlp has no estimators yet")
        MLPClassifier = fastmlp.MLPClassifier
    else:
        from sklearn.neural_network import MLPClassifier
    return MLPClassifier(random_state=0, **settings)


def digits(dtype):
    """scikit-learn's 1,797 digits, 64 numbers each."""
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    return (X / 16).astype(dtype), y


def images(dtype):
    """10,000 random images of 784 numbers."""
    rng = np.random.default_rng(0)
    return rng.random((10000, 784), np.float32).astype(dtype), rng.integers(0, 10, 10000)


FITS = {
    "digits, 30 epochs": (digits, {"max_iter": 30}),
    "digits, 30 epochs, early stopping": (
        digits,
        {"max_iter": 30, "early_stopping": True, "n_iter_no_change": 1000},
    ),
    "images, 3 epochs": (images, {"max_iter": 3, "hidden_layer_sizes": (256, 128)}),
}


class Fit(Timed):
    """Is `fit` worth the change of an import? Decides what validation and reporting around the kernels may cost.

    MLPClassifier as it is by default (Adam, minibatches of 200; the digits with a hidden layer of 100 units, the images
    with 256 and 128).
    """

    param_names = ["library", "data", "dtype"]
    params = [LIBRARIES, by_profile(["digits, 30 epochs"], list(FITS)), DTYPES]

    def setup(self, library, data, dtype):
        self.fit = prepared_fit(library, data, dtype)

    def time_fit(self, library, data, dtype):
        self.fit()

    time_fit.pretty_name = "fit"


@functools.cache
def prepared_fit(library, data, dtype):
    """A function that fits a classifier, once called already."""
    make, settings = FITS[data]
    X, y = make(dtype)
    estimator = classifier(library, **settings)
    estimator.fit(X, y)
    return functools.partial(estimator.fit, X, y)


class PartialFit(Timed):
    """What does a step on a few new examples cost? Decides what a partial_fit may do beside the step.

    A network 784-256-128-10.
    """

    param_names = ["library", "rows", "dtype"]
    params = [LIBRARIES, by_profile([32], [32, 256]), DTYPES]

    def setup(self, library, rows, dtype):
        self.step = prepared_step(library, rows, dtype)

    def time_partial_fit(self, library, rows, dtype):
        self.step()

    time_partial_fit.pretty_name = "partial_fit"


@functools.cache
def prepared_step(library, rows, dtype):
    """A function that calls partial_fit, as it has been once."""
    X, y = images(dtype)
    estimator = classifier(library, hidden_layer_sizes=(256, 128))
    estimator.partial_fit(X[:rows], y[:rows], classes=np.arange(10))
    return functools.partial(estimator.partial_fit, X[:rows], y[:rows])


class Predict(Timed):
    """What does `predict` cost, in a web server (one row) and in batches? Decides what checking its input may cost.

    A network 64-100-10.
    """

    param_names = ["library", "rows", "dtype"]
    params = [LIBRARIES, by_profile([1, 1000], [1, 32, 1000, 100000]), DTYPES]

    def setup(self, library, rows, dtype):
        self.predict = prepared_prediction(library, rows, dtype)
        self.number = max(1, 500 // rows)

    def time_predict(self, library, rows, dtype):
        self.predict()

    time_predict.pretty_name = "predict"


@functools.cache
def prepared_prediction(library, rows, dtype):
    """A function that predicts, as it has been once."""
    estimator = classifier(library, max_iter=3).fit(*digits(dtype))
    X = np.random.default_rng(0).random((rows, 64), np.float32).astype(dtype)
    estimator.predict(X)
    return functools.partial(estimator.predict, X)
