"""One codec per kind of column: a column of the table <-> columns of codes and numbers.

Each codec is a scikit-learn transformer of a single column. ``transform`` gives an array of shape
(n_samples, n_heads), one column per head in ``heads_``; ``inverse_transform`` is deterministic and
gives the column back; ``log_density`` says how a code's probability is spread over the values that
the code can produce, so that likelihoods are on the scale of the original column.
"""

import re
import uuid
import zlib
from numbers import Integral

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin, _fit_context
from sklearn.utils._param_validation import Interval, RealNotInt, StrOptions
from sklearn.utils.validation import check_is_fitted

from sktvae._heads import Categorical, Uniform


class Codec(TransformerMixin, BaseEstimator):
    """A transformer of one column; subclasses work on a plain 1-D column."""

    _parameter_constraints: dict = {}
    _learns_missing = False  # whether a column of missing values alone can be learned

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Learn the column.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, 1)
        y : ignored

        Returns
        -------
        self
        """
        column = _single_column(X)
        if len(column) == 0 or (column.isna().all() and not self._learns_missing):
            raise ValueError(
                f"{type(self).__name__} cannot learn a column without values: "
                f"{len(column)} sample(s), all missing. Drop the column."
            )
        self.n_features_in_ = 1
        self._fit(column)
        return self

    def transform(self, X):
        """Encode the column.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, 1)

        Returns
        -------
        Z : ndarray of shape (n_samples, n_heads)
            One column per head of ``heads_``; NaN in a Gaussian head that does not apply to a
            row, as where the value is missing.
        """
        check_is_fitted(self)
        column = _single_column(X)
        if column.isna().any() and not self.missing_:
            raise ValueError(
                "found a missing value, and fit saw none. Fill it, or fit on a table that has "
                "missing values in this column too"
            )
        encoded = self._transform(column)
        return np.column_stack(encoded).astype(float, copy=False)

    def inverse_transform(self, Z):
        """Decode codes and numbers.

        Parameters
        ----------
        Z : array-like of shape (n_samples, n_heads)

        Returns
        -------
        column : ndarray of shape (n_samples,)
            Floats with NaN where missing; objects for categories.
        """
        check_is_fitted(self)
        return self._inverse_transform(*self._heads_of(Z))

    def log_density(self, X, Z):
        """Log-density of the values given the categorical codes and numbers they are encoded as.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, 1)
        Z : array-like of shape (n_samples, n_heads)
            ``transform(X)``.

        Returns
        -------
        log_density : ndarray of shape (n_samples,)
            In nats. Add to it the log-probability of ``Z`` under a model to get the
            log-probability of the recorded value: the mass of one unit in the last decimal.
        """
        check_is_fitted(self)
        return self._log_density(_single_column(X), *self._heads_of(Z))

    def get_feature_names_out(self, input_features=None):
        """Names of the encoded columns.

        Parameters
        ----------
        input_features : array-like of one str, default=None

        Returns
        -------
        names : ndarray of str of shape (n_heads,)
        """
        check_is_fitted(self)
        name = "x0" if input_features is None else input_features[0]
        ends = self._head_names
        return np.array([f"{name}__{end}" if end else str(name) for end in ends], dtype=object)

    def _heads_of(self, Z):
        Z = np.asarray(Z, dtype=float)
        if Z.ndim != 2 or Z.shape[1] != len(self.heads_):
            raise ValueError(
                f"Expected 2D array of {len(self.heads_)} encoded column(s), got shape {Z.shape}"
            )
        return Z.T

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.one_d_array = True
        return tags


class CategoryCodec(Codec):
    """Categories to integer codes.

    Missing values are a category of their own. With `min_frequency` or `max_categories` the
    infrequent categories share one code; it decodes to one of them, drawn by their frequency, or
    to `infrequent_label`, and then no infrequent category is kept in the fitted codec.

    Parameters
    ----------
    min_frequency : int or float, default=None
        Categories with fewer rows (int) or a smaller share of the rows (float) are infrequent.
    max_categories : int, default=None
        Upper limit to the number of codes, the code of the infrequent ones included.
    handle_unknown : {"error", "infrequent_if_exist"}, default="error"
        What `transform` does with a category that `fit` has not seen: raise an error, or give it
        the infrequent code (an error if there is none).
    infrequent_label : object, default=None
        What the infrequent code decodes to; None draws a real infrequent category.

    Attributes
    ----------
    categories_ : ndarray of shape (n_categories,)
        Frequent categories in order, then (unless `infrequent_label` is given) infrequent ones.
    heads_ : tuple of Head
    infrequent_mass_ : ndarray of shape (n_infrequent,)
        Share of each infrequent category among the rows of the infrequent code.
    missing_ : bool
        Whether the fitted column had missing values.

    Examples
    --------
    >>> from sktvae import CategoryCodec
    >>> codec = CategoryCodec().fit(["no", "yes", "no", None])
    >>> codec.transform(["yes", None]).ravel()
    array([1., 2.])
    >>> codec.inverse_transform([[0], [2]])
    array(['no', None], dtype=object)
    """

    _learns_missing = True
    _parameter_constraints = {
        "min_frequency": [
            Interval(Integral, 1, None, closed="left"),
            Interval(RealNotInt, 0, 1, closed="neither"),
            None,
        ],
        "max_categories": [Interval(Integral, 1, None, closed="left"), None],
        "handle_unknown": [StrOptions({"error", "infrequent_if_exist"})],
        "infrequent_label": "no_validation",
    }

    def __init__(
        self,
        min_frequency=None,
        max_categories=None,
        handle_unknown="error",
        infrequent_label=None,
    ):
        self.min_frequency = min_frequency
        self.max_categories = max_categories
        self.handle_unknown = handle_unknown
        self.infrequent_label = infrequent_label

    def _fit(self, column):
        values, codes = _categories(column)
        counts = np.bincount(codes[codes >= 0], minlength=len(values))
        rare = self._infrequent(counts, len(column))
        self.missing_ = bool((codes < 0).any())
        self._n_frequent = int((~rare).sum())
        self._has_infrequent = bool(rare.any())
        if self.infrequent_label is not None:
            self.categories_, self.infrequent_mass_ = values[~rare], np.empty(0)
        else:
            self.categories_ = np.concatenate([values[~rare], values[rare]])
            self.infrequent_mass_ = counts[rare] / max(counts[rare].sum(), 1)
        self.heads_ = (Categorical(self._n_frequent + self._has_infrequent + self.missing_),)
        self._head_names = ("",)
        if len(self.infrequent_mass_) > 1:
            self.heads_ += (Uniform(),)
            self._head_names += ("position",)

    def _infrequent(self, counts, n_samples):
        """Which categories share the infrequent code."""
        least, room = self.min_frequency, self.max_categories
        rare = np.zeros(len(counts), dtype=bool)
        if least is not None:
            rare = counts < (least if isinstance(least, Integral) else least * n_samples)
        if room is not None and (~rare).sum() + rare.any() > room:
            by_count = np.argsort(-counts, kind="stable")
            rare[by_count[room - 1 :]] = True
        return rare

    def _transform(self, column):
        codes, values = pd.factorize(column)
        rank = pd.Index(self.categories_, dtype=object).get_indexer(_objects(values))
        if (rank < 0).any() and self.infrequent_label is None:
            if self.handle_unknown == "error" or not self._has_infrequent:
                raise ValueError(
                    f"found unknown categories {list(_objects(values)[rank < 0][:3])}. Fit on a "
                    "table that has them, or give unknown ones the infrequent code: "
                    "CategoryCodec(min_frequency=10, handle_unknown='infrequent_if_exist')"
                )
        elif (rank < 0).any() and not self._has_infrequent:
            raise ValueError(
                f"found unknown categories {list(_objects(values)[rank < 0][:3])}, and fit saw no "
                "infrequent ones that they could join. Fit on a table that has them"
            )
        rank = np.where(rank < 0, self._n_frequent, rank)
        missing_code = self._n_frequent + self._has_infrequent
        rank = np.append(rank, -1)[codes]  # factorize marks a missing value with -1: the last
        out = np.where(rank < 0, missing_code, np.minimum(rank, self._n_frequent))
        if len(self.heads_) == 1:
            return (out,)
        middle = np.cumsum(self.infrequent_mass_) - self.infrequent_mass_ / 2
        position = np.append(np.full(self._n_frequent, 0.5), middle)
        return out, np.append(position, 0.5)[rank]

    def _inverse_transform(self, codes, position=None):
        codes = codes.astype(int)
        frequent = self.categories_[: self._n_frequent]
        table = np.append(frequent, [self.infrequent_label] * self._has_infrequent + [None])
        values = table[codes]
        if self._has_infrequent and self.infrequent_label is None:
            infrequent = codes == self._n_frequent
            place = np.full(len(codes), 0.5) if position is None else position
            rank = self._n_frequent + self._infrequent_rank(place[infrequent])
            values[infrequent] = self.categories_[rank]
        return values

    def _infrequent_rank(self, position):
        rank = np.searchsorted(np.cumsum(self.infrequent_mass_), position, side="right")
        return np.minimum(rank, len(self.infrequent_mass_) - 1)

    def _log_density(self, column, codes, position=None):
        if position is None:
            return np.zeros(len(codes))
        mass = self.infrequent_mass_[self._infrequent_rank(position)]
        return np.where(codes == self._n_frequent, np.log(mass), 0.0)


class KeyCodec(Codec):
    """Keys, all different, to nothing, and back to fresh ones.

    A key such as a customer number says nothing of the rest of its row, and giving a real one away
    says everything. So nothing is encoded, and decoding numbers the rows with keys that look like
    those of `fit` and are none of them: numbers go on after the largest; texts of one prefix, a
    number and one suffix do as well ("C0042" to "C0043", with as many digits); for UUIDs other
    UUIDs are drawn; and for other texts there are ``key-1``, ``key-2``, ....

    Keys are unique within a table, and come again in the next table of the same codec.

    Parameters
    ----------
    random_state : int, RandomState instance or None, default=None
        For UUIDs.

    Attributes
    ----------
    form_ : {"number", "text", "uuid"}
    start_ : int
        The first number given.
    heads_ : tuple
        Empty.
    missing_ : bool
        False.

    Examples
    --------
    >>> from sktvae import KeyCodec
    >>> codec = KeyCodec().fit(["C007", "C008", "C006"])
    >>> codec.transform(["C007", "C008"]).shape
    (2, 0)
    >>> codec.inverse_transform(codec.transform(["C007", "C008"]))
    array(['C009', 'C010'], dtype=object)
    """

    _parameter_constraints = {"random_state": ["random_state"]}
    _head_names = ()
    _template = re.compile(r"(.*?)([0-9]{1,18})([^0-9]*)", re.DOTALL)

    def __init__(self, random_state=None):
        self.random_state = random_state

    def _fit(self, column):
        if column.isna().any():
            raise ValueError("has a missing value, so it is no key. Leave it to another codec")
        twice = column[column.duplicated()]
        if len(twice):
            raise ValueError(f"holds {twice.iloc[0]!r} twice, so it is no key")
        self.heads_, self.missing_ = (), False
        self._prefix, self._suffix, self._width, self.start_ = "", "", 0, 1
        if pd.api.types.is_numeric_dtype(column.dtype):
            self.form_, self.start_ = "number", int(np.floor(column.max())) + 1
            return
        values = _objects(column)
        wrong = [value for value in values if not isinstance(value, str | uuid.UUID)]
        if wrong:
            raise ValueError(
                f"holds {wrong[0]!r}, and KeyCodec knows keys that are numbers, text or UUIDs. "
                "Make them text with astype(str), or drop the column"
            )
        self.form_, self._type = "text", "str"
        if all(map(_is_uuid, values)):
            # With the keys themselves in the seed, those of a table drawn before are none of them.
            keys = zlib.crc32("".join(sorted(map(str, values))).encode())
            self.form_, self._seed = "uuid", [seed_of(self.random_state), keys]
            self._type = "uuid" if isinstance(values[0], uuid.UUID) else "str"
            self._upper = self._type == "str" and values[0].upper() == values[0]
            return
        parts = [self._template.fullmatch(str(value)) for value in values]
        if all(parts) and len({(p[1], p[3]) for p in parts}) == 1:
            self._prefix, _, self._suffix = parts[0].groups()
            self.start_ = max(int(p[2]) for p in parts) + 1
            widths = {len(p[2]) for p in parts}
            self._width = min(widths) if len(widths) == 1 else 0
            return
        self._prefix = "key-"
        while any(str(value).startswith(self._prefix) for value in values):
            self._prefix += "-"

    def transform(self, X):
        check_is_fitted(self)
        return np.empty((len(_single_column(X)), 0))

    def inverse_transform(self, Z):
        check_is_fitted(self)
        numbers = range(self.start_, self.start_ + len(Z))
        if self.form_ == "number":
            return np.array(numbers, dtype=float)
        if self.form_ == "uuid":
            some = np.random.default_rng(self._seed).bytes(16 * len(Z))
            keys = [uuid.UUID(bytes=some[i : i + 16], version=4) for i in range(0, len(some), 16)]
            if self._type == "uuid":
                return _objects(keys)
            return _objects(str(key).upper() if self._upper else str(key) for key in keys)
        return _objects(f"{self._prefix}{i:0{self._width}d}{self._suffix}" for i in numbers)

    def log_density(self, X, Z):
        return np.zeros(len(_single_column(X)))


def _is_uuid(value):
    if isinstance(value, uuid.UUID):
        return True
    if not isinstance(value, str) or len(value) != 36:
        return False
    try:
        return str(uuid.UUID(value)) == value.lower()
    except ValueError:
        return False


def _single_column(X):
    """A column, however it is handed over, as a Series."""
    if isinstance(X, pd.Series):
        return X
    if isinstance(X, pd.DataFrame):
        if X.shape[1] == 1:
            return X.iloc[:, 0]
    else:
        if not isinstance(X, np.ndarray | pd.api.extensions.ExtensionArray | pd.Index):
            X = np.array(X, dtype=object)
        if X.ndim == 1 or X.shape[1:] == (1,):
            return pd.Series(X.reshape(-1) if X.ndim > 1 else X).infer_objects()
    raise ValueError(f"Expected one column, of shape (n,) or (n, 1), got shape {X.shape}")


def _objects(values):
    """An object array of whatever values, tuples too."""
    values = list(values)
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out


def seed_of(random_state):
    """An integer seed from what scikit-learn calls a random state, never the global one."""
    if random_state is None:
        return np.random.SeedSequence().entropy
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31))
    return int(random_state)


def _categories(column):
    """Distinct values, sorted where they can be, and the code of each row: -1 where missing."""
    codes, values = pd.factorize(column)
    values = _objects(values)
    try:
        order = np.argsort(values, kind="stable")
    except TypeError:
        return values, codes
    rank = np.empty(len(order) + 1, dtype=int)
    rank[order], rank[-1] = np.arange(len(order)), -1
    return values[order], rank[codes]
