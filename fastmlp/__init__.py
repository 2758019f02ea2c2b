"""fastmlp: multilayer networks, trained on the CPU at the chip's limit.

    >>> import numpy as np
    >>> import fastmlp
    >>> net = fastmlp.Network([4, 8, 3], output="softmax", loss="log_loss", random_state=0)
    >>> X, y = np.eye(4, dtype=np.float32), np.array([0, 1, 2, 0])
    >>> history = net.train(X, y, optimizer=fastmlp.Adam(), epochs=3)
    >>> net.forward(X).shape
    (4, 3)

The equations are those of the lecture "Multilayer Networks"; docstrings cite them as (eq. 7).
"""

import importlib
from typing import Any

from fastmlp.diagnostics import check_gradients
from fastmlp.network import Network
from fastmlp.optimizers import LBFGS, SGD, Adam, GradientDescent
from fastmlp.supplied import Activation, Loss
from fastmlp.system import show_versions, warmup
from fastmlp.training import DivergenceError, History

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """What is loaded when it is first asked for: what needs scikit-learn, files, and data sets."""
    if name in ("MLPClassifier", "MLPRegressor"):
        return getattr(importlib.import_module("fastmlp.estimators"), name)
    if name == "compare_baselines":
        return importlib.import_module("fastmlp.baselines").compare_baselines
    if name in ("save", "load"):
        return getattr(importlib.import_module("fastmlp.persistence"), name)
    if name in ("saliency", "permutation_importance"):
        return getattr(importlib.import_module("fastmlp.interpretation"), name)
    if name == "estimate":
        return importlib.import_module("fastmlp.costs").estimate
    if name == "Shards":
        return importlib.import_module("fastmlp.streaming").Shards
    if name == "datasets":
        return importlib.import_module("fastmlp.datasets")
    if name == "to_onnx":
        return importlib.import_module("fastmlp.onnx_export").to_onnx
    raise AttributeError(f"module 'fastmlp' has no attribute {name!r}")


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
    "MLPRegressor",
    "Network",
    "Shards",
    "check_gradients",
    "compare_baselines",
    "datasets",
    "estimate",
    "load",
    "permutation_importance",
    "saliency",
    "save",
    "show_versions",
    "to_onnx",
    "warmup",
]
