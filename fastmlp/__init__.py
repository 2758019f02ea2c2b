"""fastmlp: multilayer networks, trained at the chip's limit on the CPU and on NVIDIA GPUs.

A network is its widths, what its units do, and what it is judged by; training is one compiled call an epoch:

    >>> import numpy as np
    >>> import fastmlp
    >>> X = np.random.default_rng(0).random((300, 4), np.float32)
    >>> y = X.argmax(axis=1)
    >>> net = fastmlp.Network([4, 16, 4], "relu", "softmax", "log_loss", init="he", random_state=0)
    >>> history = net.train(X, y, optimizer=fastmlp.Adam(0.01), batch_size=32, epochs=50)
    >>> bool((net.forward(X).argmax(axis=1) == y).mean() > 0.9)
    True

Every quantity of the lecture "Multilayer Networks" is at hand; docstrings cite its equations as (eq. 7):

    >>> [a.shape for z, a in net.layers(X)], [delta.shape for delta in net.deltas(X, y)]  # eq. 7, eq. 8-9
    ([(300, 16), (300, 4)], [(300, 16), (300, 4)])
    >>> dW, db = net.gradients(X, y)  # U / m + lambda W, V / m (eq. 10-13)

`MLPClassifier` and `MLPRegressor` are scikit-learn's, with the same parameters, random numbers and attributes:

    >>> classifier = fastmlp.MLPClassifier((16,), solver="lbfgs", random_state=0).fit(X, y)
    >>> classifier.predict(X[:2]).tolist() == y[:2].tolist()
    True

Where to go from here:

- training: `Network.train` with `GradientDescent`, `SGD`, `Adam`, `LBFGS`; `History`, `DivergenceError`; `Shards` for
  more data than memory; `Activation` and `Loss` for functions of your own; `device="cuda"` for a GPU
- many networks at once: `train_many`, `MLPSearchCV`, `MLPEnsembleClassifier`, `MLPEnsembleRegressor`
- is it right, is it worth it: `check_gradients`, `diagnose`, `find_learning_rate`, `compare_baselines`, `estimate`
- what did it learn: `Network.transform`, `saliency`, `permutation_importance`, and the pictures of `displays`
- keeping it: `save`, `load`, `checkpoint=`, `to_onnx`
- around it: `datasets`, `warmup`, `show_versions`, and the command `fastmlp`
"""

import importlib
from typing import Any

from fastmlp.gradient_check import check_gradients
from fastmlp.network import Network
from fastmlp.optimizers import LBFGS, SGD, Adam, GradientDescent
from fastmlp.supplied import Activation, Loss
from fastmlp.system import show_versions, warmup
from fastmlp.training import DivergenceError, History

__version__ = "0.1.0"


LATER = {  # what is loaded when it is first asked for, and from which module: itself where there is none
    "MLPClassifier": "estimators",
    "MLPEnsembleClassifier": "ensembles",
    "MLPEnsembleRegressor": "ensembles",
    "MLPRegressor": "estimators",
    "MLPSearchCV": "search",
    "Shards": "streaming",
    "compare_baselines": "baselines",
    "datasets": "",
    "diagnose": "diagnostics",
    "displays": "",
    "estimate": "costs",
    "find_learning_rate": "learning_rate",
    "load": "persistence",
    "permutation_importance": "interpretation",
    "saliency": "interpretation",
    "save": "persistence",
    "to_onnx": "onnx_export",
    "train_many": "many",
}


def __getattr__(name: str) -> Any:
    """What is loaded when it is first asked for, such as the estimators, which import scikit-learn."""
    if name not in LATER:
        raise AttributeError(f"module 'fastmlp' has no attribute {name!r}")
    if not LATER[name]:
        return importlib.import_module(f"fastmlp.{name}")
    return getattr(importlib.import_module(f"fastmlp.{LATER[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "LBFGS",
    "SGD",
    "Activation",
    "Adam",
    "DivergenceError",
    "GradientDescent",
    "History",
    "Loss",
    "MLPClassifier",
    "MLPEnsembleClassifier",
    "MLPEnsembleRegressor",
    "MLPRegressor",
    "MLPSearchCV",
    "Network",
    "Shards",
    "check_gradients",
    "compare_baselines",
    "datasets",
    "diagnose",
    "displays",
    "estimate",
    "find_learning_rate",
    "load",
    "permutation_importance",
    "saliency",
    "save",
    "show_versions",
    "to_onnx",
    "train_many",
    "warmup",
]
