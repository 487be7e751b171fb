"""`TVAEOverSampler`: rows of rare classes, with the interface of imbalanced-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn import config_context
from sklearn.base import clone
from sklearn.utils.validation import validate_data

from sktvae._collective import current_group
from sktvae._random import seeds_of
from sktvae._synthesizer import TVAESynthesizer
from sktvae._table.containers import ArrayTable, PandasTable, as_frame

try:
    from imblearn.over_sampling.base import BaseOverSampler
    from imblearn.utils import check_target_type
except ImportError as error:
    raise ImportError(
        "TVAEOverSampler needs imbalanced-learn, which could not be imported. Install it with "
        "sktvae's extra: pip install 'sktvae[imbalanced]'."
    ) from error


class TVAEOverSampler(BaseOverSampler):
    """Enlarge rare classes by rows that a :class:`~sktvae.TVAESynthesizer` draws.

    For each class that is enlarged, a synthesizer learns the joint distribution of the features
    from the rows of this class, and draws new ones. They are appended to the original rows, which
    stay as they are.

    Columns of any kind that the synthesizer models are taken: numbers, text, categories, booleans,
    dates and durations, with missing values or without. New rows have missing values as often as
    the rows of their class.

    Parameters
    ----------
    sampling_strategy : float, str, dict or callable, default="auto"
        Which classes are enlarged, as for all over-samplers of imbalanced-learn. "auto" and
        "not majority": all classes but the largest become as large as the largest; "minority": only
        the smallest; "not minority": all but the smallest; "all". A float is the wanted ratio of
        the two classes of a binary target, a dict holds the wanted number of rows of each class,
        and a callable returns such a dict for y.
    synthesizer : TVAESynthesizer, default=None
        The synthesizer of which a clone is fitted to each class; None is ``TVAESynthesizer()``.
        `conditional` and `warm_start` have no effect.
    random_state : int, RandomState instance or None, default=None
        With an int, `fit_resample` is reproducible. None uses the `random_state` of `synthesizer`.

    Attributes
    ----------
    sampling_strategy_ : dict
        The number of rows that are drawn for each class.
    synthesizers_ : dict
        The fitted synthesizer of each class that was enlarged.
    n_features_in_ : int
    feature_names_in_ : ndarray of str of shape (`n_features_in_`,)
        Defined if all column names of X are strings.

    See Also
    --------
    imblearn.over_sampling.RandomOverSampler : Repeat rows.
    imblearn.over_sampling.SMOTENC : Interpolate between neighbouring rows of a class.

    Notes
    -----
    A class that is enlarged must have at least as many rows as `min_samples` of the synthesizer
    says, which is 3 by default. `min_samples` is applied to each class: a category that fewer rows
    of the class have does not occur in the new rows, and numbers stay within the range of the
    class.

    The classes are learned one by one because a model of all rows neglects a rare class: its new
    rows would resemble those of the other classes. (With a synthesizer that was fitted to X and y,
    ``sample(n, conditions={"target": value})`` draws from such a model.)

    A classifier that is fitted to resampled rows overestimates the probability of the classes that
    were enlarged. Compare with a fit to the original rows, and consider weights of classes: on
    three tables (``benchmarks/oversampling.py``) no over-sampler improved how gradient boosting
    ranks the rows, and on one of them this one, and SMOTE, made it clearly worse.

    Resample within cross-validation, by a :class:`imblearn.pipeline.Pipeline`, so that nothing of
    the test rows is learned.

    Examples
    --------
    >>> import pandas as pd
    >>> from sktvae import TVAESynthesizer
    >>> from sktvae.imbalanced import TVAEOverSampler
    >>> X = pd.DataFrame({"age": [31, 54, 31, 62] * 25, "smoker": ["no", "no", "no", "yes"] * 25})
    >>> y = pd.Series(["well", "well", "well", "ill"] * 25, name="state")
    >>> sampler = TVAEOverSampler(synthesizer=TVAESynthesizer(epochs=20), random_state=0)
    >>> X_resampled, y_resampled = sampler.fit_resample(X, y)
    >>> {state: int(n) for state, n in y_resampled.value_counts().items()}
    {'well': 75, 'ill': 75}
    >>> X_resampled.tail(2)
         age smoker
    148   62    yes
    149   62    yes
    """

    _parameter_constraints = {
        **BaseOverSampler._parameter_constraints,
        "synthesizer": [TVAESynthesizer, None],
    }

    def __init__(
        self,
        *,
        sampling_strategy: Any = "auto",
        synthesizer: TVAESynthesizer | None = None,
        random_state: Any = None,
    ):
        super().__init__(sampling_strategy=sampling_strategy)
        self.synthesizer = synthesizer
        self.random_state = random_state

    # What imbalanced-learn asks of a sampler: both are called by `fit_resample`.

    def _check_X_y(self, X: Any, y: Any) -> tuple[Any, np.ndarray, bool]:
        """Return X as a dense DataFrame or array, y in one dimension, and if it was one-vs-rest."""
        y, is_one_vs_rest = check_target_type(y, indicate_one_vs_all=True)
        if isinstance(X, pd.DataFrame):
            X = _dense(X)
        frame, container = as_frame(X)
        if isinstance(container, ArrayTable):
            X = container.write(_columns(frame), [])
        elif not isinstance(container, PandasTable):
            raise TypeError(
                f"X is a table of {type(X).__module__.partition('.')[0]}, which imbalanced-learn "
                "does not support. Convert it to pandas: X.to_pandas()."
            )
        validate_data(self, X=X, y=y, reset=True, skip_check_array=True)
        return X, y, is_one_vs_rest

    def _fit_resample(self, X: Any, y: np.ndarray) -> tuple[Any, np.ndarray]:
        """Return the rows and classes, followed by those that are drawn."""
        current_group().refuse("TVAEOverSampler")
        frame, container = as_frame(X)
        wanted = {label: n for label, n in self.sampling_strategy_.items() if n}
        prototype = TVAESynthesizer() if self.synthesizer is None else self.synthesizer
        self._check_rows(prototype, wanted, y)
        state = prototype.random_state if self.random_state is None else self.random_state
        synthesizers, drawn, labels = {}, [], []
        for (label, n), seed in zip(wanted.items(), seeds_of(state, len(wanted)), strict=True):
            synthesizer = clone(prototype)
            synthesizer.set_params(random_state=seed, conditional=False)
            # imbalanced-learn has switched off that estimators validate their parameters.
            with config_context(skip_parameter_validation=False):
                synthesizer.fit(frame[y == label])
            rows = synthesizer.sample(n)
            _check_columns(frame, rows)
            drawn.append(rows)
            labels.append(np.full(n, label, dtype=y.dtype))
            synthesizers[label] = synthesizer
        self.synthesizers_ = synthesizers
        y = np.concatenate([y, *labels])
        if isinstance(container, PandasTable):  # imbalanced-learn restores the dtypes
            return pd.concat([frame, *drawn], ignore_index=True), y
        return np.concatenate([X, *(container.write(_columns(rows), []) for rows in drawn)]), y

    @staticmethod
    def _check_rows(prototype: TVAESynthesizer, wanted: dict, y: np.ndarray) -> None:
        """Raise ValueError if a class has too few rows to be learned."""
        encoding = prototype if prototype.encoder is None else prototype.encoder
        for label in wanted:
            n_rows = int((y == label).sum())
            if n_rows < encoding.min_samples:
                raise ValueError(
                    f"Class {label} has {n_rows} row(s), but a class that is enlarged needs "
                    f"min_samples={encoding.min_samples} at least. Leave it out: "
                    "sampling_strategy={class: number of rows}; or lower min_samples of the "
                    "synthesizer, whose new rows then repeat single rows."
                )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = False
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        return tags


def _check_columns(frame: pd.DataFrame, rows: pd.DataFrame) -> None:
    """Raise ValueError if drawn rows lack a column."""
    if rows.shape[1] < frame.shape[1]:
        lacking = [name for name in frame.columns if name not in rows.columns]
        raise ValueError(
            f"The synthesizer's encoder drops columns {lacking!r}, but new rows need every column "
            "of X. Drop them from X, or choose another codec."
        )


def _columns(frame: pd.DataFrame) -> list[pd.Series]:
    return [frame.iloc[:, i] for i in range(frame.shape[1])]


def _dense(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table without sparse columns; imbalanced-learn makes them sparse again."""
    sparse = [isinstance(dtype, pd.SparseDtype) for dtype in frame.dtypes]
    if not any(sparse):
        return frame
    columns = [
        column.sparse.to_dense() if is_sparse else column
        for column, is_sparse in zip(_columns(frame), sparse, strict=True)
    ]
    dense = pd.concat(columns, axis=1)
    dense.columns = frame.columns
    return dense
