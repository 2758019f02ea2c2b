"""MLPEnsembleClassifier and MLPEnsembleRegressor: the average of differently seeded networks, and their spread."""

from numbers import Integral
from typing import Any

import numpy as np
from scipy.special import entr
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, _fit_context, clone, is_classifier
from sklearn.ensemble._base import _set_random_states
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils._param_validation import HasMethods, Interval
from sklearn.utils.validation import _check_sample_weight, check_is_fitted

from fastmlp.estimators import MLPClassifier, MLPRegressor, validated
from fastmlp.many import fit_together


class _MLPEnsemble(BaseEstimator):
    """What the classifier and the regressor share."""

    _member: type  # of which kind the members are

    _parameter_constraints: dict[str, list[Any]] = {
        "estimator": [HasMethods(["fit", "predict"]), None],
        "n_members": [Interval(Integral, 1, None, closed="left")],
        "bootstrap": ["boolean"],
        "random_state": ["random_state"],
    }

    def __init__(self, estimator=None, n_members=10, *, bootstrap=False, random_state=None):
        self.estimator = estimator
        self.n_members = n_members
        self.bootstrap = bootstrap
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y, sample_weight=None):
        """Train the members, all together.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (m, n_features)
        y : array-like of shape (m,) or (m, n_outputs)
        sample_weight : array-like of shape (m,), optional

        Returns
        -------
        self

        Raises
        ------
        TypeError
            When `estimator` is something other than a network for this task.
        ValueError
            When the members refuse the data; what was fitted before stands.
        """
        estimator = self._member() if self.estimator is None else self.estimator
        if not isinstance(estimator, self._member):
            raise TypeError(
                f"estimator is {estimator!r}; {self._member.__name__} is allowed (preprocessing goes before the "
                f"ensemble: make_pipeline(StandardScaler(), {type(self).__name__}()))"
            )
        before = dict(vars(self))
        try:
            numeric = not is_classifier(self)
            X, y = validated(self, X, y, accept_sparse=["csr"], multi_output=True, y_numeric=numeric)
            y = column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y
            weight = None if sample_weight is None else _check_sample_weight(sample_weight, X, dtype=np.float64)
            random_state = check_random_state(self.random_state)
            members, data = [], []
            for _ in range(self.n_members):
                members.append(clone(estimator))
                _set_random_states(members[-1], random_state)
                own = weight
                if self.bootstrap:
                    times = np.bincount(random_state.randint(0, len(y), len(y)), minlength=len(y)).astype(np.float64)
                    own = times if weight is None else times * weight
                data.append((X, y, {} if own is None else {"sample_weight": own}))
            for error in fit_together(members, data):
                if error is not None:
                    raise error
        except BaseException:
            self.__dict__ = before
            raise
        self.estimators_ = members
        self.n_outputs_ = members[0].n_outputs_
        return self

    def _of_members(self, method: str, X: Any) -> np.ndarray:
        """What each of the members says about X, one after another: (n_members, m, ...)."""
        check_is_fitted(self)
        X = validated(self, X, accept_sparse=["csr"], reset=False)
        return np.stack([getattr(member, method)(X) for member in self.estimators_])

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


class MLPEnsembleClassifier(ClassifierMixin, _MLPEnsemble):
    """The average of networks that differ in their seeds: better than each, and it knows where they disagree.

    A deep ensemble (Lakshminarayanan et al., 2017). The members are trained together (`fastmlp.train_many`), each with
    the bits that it would have when trained alone.

    Parameters
    ----------
    estimator : MLPClassifier, optional
        What a member is, but for its random_state. MLPClassifier() when not given.
    n_members : int >= 1, default=10
    bootstrap : bool, default=False
        Whether each member also has examples of its own: as many as there are, drawn with replacement, which enter as
        their sample_weight. Seeds alone are usually better for networks.
    random_state : int, RandomState or None, default=None
        What the members' random_state, integers, and their examples are drawn from.

    Attributes
    ----------
    estimators_ : list of MLPClassifier
        The fitted members.
    classes_ : ndarray of shape (n_classes,)
    n_features_in_, n_outputs_ : int
    feature_names_in_ : ndarray of str
        Where X had names.

    Notes
    -----
    Ensembles are kept with pickle; `fastmlp.save` takes the members, one by one. While they are trained together, their
    n_threads has no effect.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp import MLPClassifier, MLPEnsembleClassifier
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> y = X[:, 0] * X[:, 1] > 0
    >>> member = MLPClassifier((16,), solver="lbfgs", max_iter=50)
    >>> ensemble = MLPEnsembleClassifier(member, n_members=5, random_state=0).fit(X, y)
    >>> bool(ensemble.score(X, y) > 0.9)
    True
    >>> p, std = ensemble.predict_proba([[2.0, 2.0], [0.1, -0.02]], return_std=True)
    >>> bool(std[1, 1] > std[0, 1])  # near the boundary the members disagree
    True
    """

    _member = MLPClassifier

    def fit(self, X, y, sample_weight=None):
        super().fit(X, y, sample_weight)
        self.classes_ = self.estimators_[0].classes_
        return self

    fit.__doc__ = _MLPEnsemble.fit.__doc__

    def predict_proba(self, X, return_std=False):
        """Probabilities of the classes, averaged over the members.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (m, n_features)
        return_std : bool, default=False

        Returns
        -------
        p : ndarray of shape (m, n_classes)
            In the order of classes_; of each label, for multilabel targets.
        std : ndarray of shape (m, n_classes)
            The standard deviation over the members, divided by n_members; only with return_std.
        """
        p = self._of_members("predict_proba", X)
        return (p.mean(axis=0), p.std(axis=0)) if return_std else p.mean(axis=0)

    def predict_log_proba(self, X):
        """Logarithms of the averaged probabilities.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (m, n_features)

        Returns
        -------
        log_p : ndarray of shape (m, n_classes)
        """
        p = self.predict_proba(X)
        with np.errstate(divide="ignore"):
            return np.log(p, out=p)

    def predict(self, X):
        """The classes of the largest averaged probability; for multilabel targets the labels above one half.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (m, n_features)

        Returns
        -------
        y : ndarray of shape (m,) or (m, n_outputs)
        """
        p = self.predict_proba(X)
        first = self.estimators_[0]
        if self._multilabel():
            return first._from_outputs(p)
        return first._from_outputs(p.argmax(axis=1) if self.n_outputs_ > 1 else p[:, 1:])

    def predictive_entropy(self, X):
        """Entropy of the averaged probabilities: all there is of uncertainty, in nats.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (m, n_features)

        Returns
        -------
        entropy : ndarray of shape (m,)
            0 (certain) to log(n_classes); (m, n_outputs), of each label, for multilabel targets.
        """
        return self._entropy(self.predict_proba(X))

    def mutual_information(self, X):
        """How much of the entropy is the members' disagreement, in nats: what more examples would take away.

        The entropy of the average less the average of the members' entropies (Houlsby et al., 2011; Depeweg et al.,
        2018); the rest is noise that every member sees.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (m, n_features)

        Returns
        -------
        information : ndarray of shape (m,)
            0 (all members say the same) to predictive_entropy; (m, n_outputs), of each label, for multilabel targets.
        """
        p = self._of_members("predict_proba", X)
        return np.maximum(self._entropy(p.mean(axis=0)) - self._entropy(p).mean(axis=0), 0.0)

    def _entropy(self, p: np.ndarray) -> np.ndarray:
        return entr(p) + entr(1 - p) if self._multilabel() else entr(p).sum(axis=-1)

    def _multilabel(self) -> bool:
        return self.estimators_[0]._label_binarizer.y_type_.startswith("multilabel")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


class MLPEnsembleRegressor(RegressorMixin, _MLPEnsemble):
    """The average of networks that differ in their seeds, and the members' spread as its uncertainty.

    A deep ensemble (Lakshminarayanan et al., 2017). The members are trained together (`fastmlp.train_many`), each with
    the bits that it would have when trained alone.

    Parameters
    ----------
    estimator : MLPRegressor, optional
        What a member is, but for its random_state. MLPRegressor() when not given.
    n_members : int >= 1, default=10
    bootstrap : bool, default=False
        Whether each member also has examples of its own: as many as there are, drawn with replacement, which enter as
        their sample_weight. Seeds alone are usually better for networks.
    random_state : int, RandomState or None, default=None
        What the members' random_state, integers, and their examples are drawn from.

    Attributes
    ----------
    estimators_ : list of MLPRegressor
        The fitted members.
    n_features_in_, n_outputs_ : int
    feature_names_in_ : ndarray of str
        Where X had names.

    Notes
    -----
    Ensembles are kept with pickle; `fastmlp.save` takes the members, one by one. While they are trained together, their
    n_threads has no effect.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp import MLPEnsembleRegressor, MLPRegressor
    >>> X = np.linspace(-3, 3, 100)[:, None]
    >>> member = MLPRegressor(hidden_layer_sizes=(20,), activation="tanh", solver="lbfgs")
    >>> ensemble = MLPEnsembleRegressor(member, n_members=5, random_state=0).fit(X, np.sin(X[:, 0]))
    >>> y, std = ensemble.predict([[1.0], [6.0]], return_std=True)
    >>> bool(abs(y[0] - np.sin(1)) < 0.02), bool(std[1] > 10 * std[0])  # far from all examples the members disagree
    (True, True)
    """

    _member = MLPRegressor

    def predict(self, X, return_std=False):
        """Values at the examples, averaged over the members.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (m, n_features)
        return_std : bool, default=False

        Returns
        -------
        y : ndarray of shape (m,) or (m, n_outputs)
        std : ndarray of the same shape
            The standard deviation over the members, divided by n_members, in the unit of y; only with return_std. It is
            what the networks do not know; noise in y is not in it.
        """
        y = self._of_members("predict", X)
        return (y.mean(axis=0), y.std(axis=0)) if return_std else y.mean(axis=0)
