"""What a network looks at: the lecture's "often not interpretable", answered as far as derivatives and shuffling go."""

from typing import Any

import numpy as np

from fastmlp import devices, inputs
from fastmlp.conversion import as_estimator, network_of
from fastmlp.network import Network
from fastmlp.supplied import Loss

# Whose delta^(L)_k is y_k f'(z_k): with y a row of the identity, the derivative of an output.
OUTPUT_ITSELF = Loss(f=lambda a, y: a * y, df=lambda a, y: y, name="one of the outputs")


def saliency(model: Any, X: Any, output: int | None = None) -> np.ndarray:
    """How much each output changes with each input: dh_j / dx_i, for every row of X.

    delta is carried to the input, one more step of eq. 9: dh_j / dx_i = sum_k W^(1)_ki delta^(2)_k, where delta^(L) is
    the derivative of h_j itself instead of the loss's.

    Parameters
    ----------
    model : Network, or fitted MLPClassifier or MLPRegressor
        Of a classifier h are the probabilities that the network puts out: one a class, one in all of two classes.
    X : array-like or CSR matrix of shape (m, n_in)
        As the model takes it.
    output : int, optional
        The only output j that is wanted.

    Returns
    -------
    slopes : ndarray of shape (m, n_out, n_in), or (m, n_in) of one output
        In units of h per unit of x.

    Raises
    ------
    TypeError
        When model is something else.
    ValueError
        When X does not suit the model, or there is no such output.

    References
    ----------
    Simonyan, Vedaldi and Zisserman, "Deep inside convolutional networks" (2014), section 3.

    Examples
    --------
    >>> import numpy as np
    >>> import fastmlp
    >>> net = fastmlp.Network([2, 1], output="identity", random_state=0)
    >>> net.weights = [[[3.0], [-1.0]]]
    >>> fastmlp.saliency(net, np.zeros((1, 2)))
    array([[[ 3., -1.]]], dtype=float32)
    """
    if isinstance(model, Network):
        network, X = model, inputs.as_examples(X, model.sizes[0])
    else:
        from sklearn.utils.validation import check_is_fitted

        from fastmlp.estimators import validated

        check_is_fitted(as_estimator(model), "coefs_")
        network, X = network_of(model, 1), validated(model, X, accept_sparse=["csr"], reset=False)
    n_out, last = network.sizes[-1], network.output
    if output is not None and not (inputs.is_whole(output) and 0 <= output < n_out):
        raise ValueError(f"output is {output!r}; None or an integer from 0 to {n_out - 1} is allowed")
    m, dtype = X.shape[0], np.dtype(network.dtype)
    wanted = range(n_out) if output is None else [int(output)]
    slopes = np.empty((m, len(wanted), network.sizes[0]), dtype)
    if m > 0:
        of_z = last in ("softmax", "exp")  # dh_j / dz_k is h_j (1[j = k] - h_k), or h_j where j = k: delta^(L) itself
        h = network.forward(X) if of_z else np.ones((1, n_out), dtype)
        weights, biases = network._trainer.parameters()
        settings = network.sizes, network.activation, "identity" if of_z else last, OUTPUT_ITSELF, 0.0, dtype, 0.0
        trainer = devices.trainer_class(network.device)(*settings)
        trainer.set_parameters(weights, biases)
        for place, j in enumerate(wanted):
            row = np.eye(n_out, dtype=dtype)[j]
            delta = h[:, j : j + 1] * (row - h if last == "softmax" else row)
            slopes[:, place] = trainer.deltas(X, np.broadcast_to(delta, (m, n_out)))[0] @ weights[0].T
    return slopes if output is None else slopes[:, 0]


class _Scored:
    """A network with the methods that scikit-learn looks for."""

    def __init__(self, network: Network):
        self.network = network

    def fit(self, X: Any, T: Any) -> "_Scored":
        """It is trained already."""
        return self

    def score(self, X: Any, T: Any, sample_weight: Any = None) -> float:
        """-J (eq. 6): higher is better."""
        return -self.network.objective(X, T, sample_weight)


def permutation_importance(model: Any, X: Any, T: Any, **settings: Any) -> Any:
    """How much worse the model gets when the values of one input are shuffled among the examples, for every input.

    This is scikit-learn's `sklearn.inspection.permutation_importance`, which takes the estimators as they are; here
    a Network, too, whose score is -J (eq. 6).

    Parameters
    ----------
    model : Network, or fitted estimator of scikit-learn's kind
    X : array-like of shape (m, n_in)
    T : array-like
        Targets of a Network, or y of an estimator.
    **settings
        n_repeats=5, random_state=None, n_jobs=None, sample_weight=None, max_samples=1.0; of estimators also scoring.

    Returns
    -------
    result : sklearn.utils.Bunch
        `importances_mean` and `importances_std`, (n_in,), and `importances`, (n_in, n_repeats): the loss of score.

    References
    ----------
    Breiman, "Random forests" (2001), section 10.

    Examples
    --------
    >>> import numpy as np
    >>> import fastmlp
    >>> X = np.random.default_rng(0).random((50, 2))
    >>> net = fastmlp.Network([2, 1], output="identity", dtype="float64", random_state=0)
    >>> net.weights, net.biases = [[[1.0], [0.0]]], [[0.0]]
    >>> found = fastmlp.permutation_importance(net, X, X[:, 0], random_state=0)
    >>> bool(found.importances_mean[0] > 0), float(found.importances_mean[1])
    (True, 0.0)
    """
    from sklearn import inspection

    if isinstance(model, Network):
        if settings.get("scoring") is not None:
            raise ValueError("scoring is given; of a Network the score is -J, and None is allowed")
        model = _Scored(model)
    return inspection.permutation_importance(model, X, T, **settings)
