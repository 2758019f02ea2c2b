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

from fastmlp.gradient_check import check_gradients
from fastmlp.network import Network
from fastmlp.optimizers import LBFGS, SGD, Adam, GradientDescent
from fastmlp.supplied import Activation, Loss
from fastmlp.system import show_versions, warmup
from fastmlp.training import DivergenceError, History

__version__ = "0.1.0"


LATER = {  # what is loaded when it is first asked for, and from which module: itself where there is none
    "MLPClassifier": "estimators",
    "MLPRegressor": "estimators",
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
    "MLPRegressor",
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
    "warmup",
]
