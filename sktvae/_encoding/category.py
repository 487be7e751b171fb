"""`CategoryCodec`: categories <-> integer codes."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils._param_validation import Interval, RealNotInt, StrOptions

from sktvae._encoding.codec import FEWEST_ROWS_FOR_ADVICE, Codec, EncodedColumn
from sktvae._encoding.limits import Accepted, Limit
from sktvae._encoding.summary import ColumnSummary, as_objects, estimated_richness
from sktvae._heads import Categorical, Uniform


class CategoryCodec(Codec):
    """Encode categories as integer codes.

    Missing values are a category of their own. With `min_frequency` or `max_categories`,
    infrequent categories share one code. That code decodes to one of them, drawn according to
    their frequencies, or to `infrequent_label`; in the latter case the fitted codec keeps no
    infrequent category.

    Parameters
    ----------
    min_frequency : int or float, default=None
        Categories with fewer rows (int) or a smaller share of the rows (float) are infrequent.
    max_categories : int, default=None
        Upper limit to the number of codes, including the code of the infrequent categories but
        not that of missing values.
    handle_unknown : {"error", "infrequent_if_exist"}, default="error"
        What `transform` does with a category, or a missing value, that `fit` did not see:
        "error" raises an error; "infrequent_if_exist" encodes it as an infrequent category or, if
        there is none, as the most frequent one. Scores never raise: see Notes.
    infrequent_label : object, default=None
        What the code of the infrequent categories decodes to; None draws one of them.
    min_samples : int, default=1
        Categories in fewer rows than this are not kept: they are infrequent, and their code decodes
        to `infrequent_label` or else to another category, drawn according to the frequencies of
        those that are kept. Booleans are always kept, and if no category has so many rows and there
        is no label, all are. With 1 there is no such protection.

    Attributes
    ----------
    categories_ : ndarray of shape (n_categories,)
        Frequent categories in ascending order, followed by the infrequent ones that are kept: none
        if `infrequent_label` is given.
    heads_ : tuple of Head
    infrequent_mass_ : ndarray of shape (n_infrequent,)
        Share of each infrequent category that is kept among the rows of all of them.
    missing_ : bool
        Whether the column had missing values in `fit`.

    Notes
    -----
    In `log_density` a category that `fit` did not see counts as one more row of the infrequent
    code, or else of the most frequent code; a missing value likewise if `fit` saw none. Their
    density is thus low but finite, and the probabilities of all categories and of these events
    still sum to one. Infrequent categories that are not kept are taken to be equally frequent among
    as many as there are estimated to be (Chao 1984), so that merging categories does not increase
    the likelihood.

    Examples
    --------
    >>> from sktvae import CategoryCodec
    >>> codec = CategoryCodec().fit(["no", "yes", "no", None])
    >>> codec.transform(["yes", None]).ravel()
    array([1., 2.])
    >>> codec.inverse_transform([[0], [2]])
    array(['no', None], dtype=object)
    """

    alternatives = "'drop', CategoryCodec() or, if all rows have a different value, KeyCodec()"
    _parameter_constraints = {
        "min_frequency": [
            Interval(Integral, 1, None, closed="left"),
            Interval(RealNotInt, 0, 1, closed="neither"),
            None,
        ],
        "max_categories": [Interval(Integral, 1, None, closed="left"), None],
        "handle_unknown": [StrOptions({"error", "infrequent_if_exist"})],
        "infrequent_label": "no_validation",
        "min_samples": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        min_frequency: int | float | None = None,
        max_categories: int | None = None,
        handle_unknown: str = "error",
        infrequent_label: Any = None,
        min_samples: int = 1,
    ):
        self.min_frequency = min_frequency
        self.max_categories = max_categories
        self.handle_unknown = handle_unknown
        self.infrequent_label = infrequent_label
        self.min_samples = min_samples

    def check_column(self, column: Any, kind: str, related: bool) -> None:
        label = self.infrequent_label
        if label is None:
            return
        if related:
            raise ValueError(
                f"Column {column.name!r} is part of a relation, so it cannot have an "
                "infrequent_label: a combination has no label. Set it to None, or omit the "
                "relation."
            )
        try:
            fits = column.write(as_objects([label])).iloc[0] == label
        except (TypeError, ValueError):
            fits = False
        if not fits:
            raise ValueError(
                f"Column {column.name!r} is {column.dtype_name} and cannot hold "
                f"infrequent_label={label!r}. Choose a label of its kind, or convert the column to "
                f"text: X[{column.name!r}].astype(str)."
            )

    def advice(self, summary: ColumnSummary, kind: str) -> str | None:
        n_present = summary.looked_at.sum()
        is_text = are_texts(summary.values[:100])
        nearly_unique = len(summary.values) >= n_present / 3
        if (
            self.infrequent_label is not None
            or not is_text
            or n_present < FEWEST_ROWS_FOR_ADVICE
            or not nearly_unique
        ):
            return None
        return (
            f"has {len(summary.values)} different texts in {n_present:.0f} rows: it looks like an "
            "identifier or free text, whose real values will appear in samples"
        )

    def _fit(self, summary: ColumnSummary) -> None:
        if not summary.n_samples:
            raise ValueError("CategoryCodec cannot learn a column without rows: 0 sample(s).")
        values, counts = summary.values, summary.counts
        forgotten = self._not_kept(summary)
        rare = self._infrequent(counts, summary.n_samples) | forgotten
        if summary.sampled and not rare.any():
            raise ValueError(
                f"there are too many categories to keep all, more than {len(values):,}, and those "
                "outside a sample of the rows have no code. Let rare ones share a code, with "
                "max_categories or min_frequency; or replace the column: KeyCodec() or 'drop'."
            )
        if self.infrequent_label is not None:
            forgotten = rare
        self.missing_ = summary.missing > 0
        self._n_frequent = int((~rare).sum())
        self._has_infrequent = bool(rare.any())
        self._forgets = bool(forgotten.any() or summary.sampled)
        kept = rare & ~forgotten
        self.categories_ = np.concatenate([values[~rare], values[kept]])
        self.infrequent_mass_ = counts[kept] / max(counts[kept].sum(), 1)
        self._set_substitutes(counts[~rare])
        self.heads_ = (Categorical(self._n_frequent + self._has_infrequent + self.missing_),)
        self._head_names = ("",)
        if len(self._substitutes) > 1:
            self.heads_ += (Uniform(),)
            self._head_names += ("position",)
        self._reserve(summary, rare, forgotten)

    def _not_kept(self, summary: ColumnSummary) -> np.ndarray:
        """Return which categories have so few rows that they are not kept."""
        few = summary.rows < self.min_samples
        if few.all() and self.infrequent_label is None:
            if summary.sampled:
                raise ValueError(
                    f"there are so many categories that none has min_samples={self.min_samples} "
                    f"rows in a sample of {summary.rows.sum():,.0f}, so that none is kept. Replace "
                    "the column: KeyCodec() or 'drop'; or set min_samples=1 and max_categories."
                )
            return np.zeros(len(few), dtype=bool)  # nothing else could be drawn
        is_bool = all(isinstance(value, bool | np.bool_) for value in summary.values[:3])
        return np.zeros(len(few), dtype=bool) if is_bool else few

    def _set_substitutes(self, counts: np.ndarray) -> None:
        """Choose what the infrequent code decodes to: positions in `categories_` and shares."""
        self._substitutes = self._n_frequent + np.arange(len(self.infrequent_mass_))
        self._substitute_mass = self.infrequent_mass_
        has_label = self.infrequent_label is not None
        if self._has_infrequent and not has_label and not len(self._substitutes):
            self._substitutes = np.arange(self._n_frequent)
            self._substitute_mass = counts / counts.sum()

    def _infrequent(self, counts: np.ndarray, n_samples: float) -> np.ndarray:
        """Return which categories share the infrequent code."""
        least, most = self.min_frequency, self.max_categories
        rare = np.zeros(len(counts), dtype=bool)
        if least is not None:
            rare = counts < (least if isinstance(least, Integral) else least * n_samples)
        if most is not None and (~rare).sum() + rare.any() > most:
            by_count = np.argsort(-counts, kind="stable")
            rare[by_count[most - 1 :]] = True
        return rare

    def _reserve(self, summary: ColumnSummary, rare: np.ndarray, forgotten: np.ndarray) -> None:
        """Choose the code of values that `fit` did not see, and the mass reserved for them."""
        counts = summary.counts
        n_events = 1 + (not self.missing_)  # an unknown category; a missing value
        kept_rows, other_rows, richness = 0.0, 0.0, 0.0
        if self._has_infrequent:
            self._unseen_code = self._n_frequent
            kept_rows = counts[rare & ~forgotten].sum()
            other_rows = counts[forgotten].sum()
            richness = estimated_richness(summary.rows[forgotten])
        elif self._n_frequent:
            self._unseen_code = int(np.argmax(counts[~rare]))
            kept_rows = counts[~rare][self._unseen_code]
        else:
            self._unseen_code, kept_rows = 0, summary.missing  # the code of missing values
        total = kept_rows + other_rows + n_events
        self._seen_share = float(kept_rows / total)
        self._unseen_mass = float((other_rows + n_events) / total / (richness + n_events))

    def _encode(self, column: pd.Series, log_density: bool) -> EncodedColumn:
        codes, values = pd.factorize(column)
        values = as_objects(values)
        rank = pd.Index(self.categories_, dtype=object).get_indexer(values)
        refused = self._refuse(codes, values, rank)
        # One entry per distinct value, then one for a missing value, which has the code -1.
        missing_code = self._n_frequent + self._has_infrequent
        known = np.append(rank >= 0, self.missing_)
        rank = np.append(rank, -1)
        table = np.where(known, np.minimum(rank, self._n_frequent), self._unseen_code)
        if self.missing_:
            table[-1] = missing_code
        heads = [table[codes]]
        if len(self.heads_) > 1:
            middle = np.cumsum(self.infrequent_mass_) - self.infrequent_mass_ / 2
            position = np.append(np.append(np.full(self._n_frequent, 0.5), middle), 0.5)
            heads.append(position[rank][codes])
        if not log_density:
            return EncodedColumn(heads, refused=refused)
        density = self._density(rank, known, table)[codes]
        return EncodedColumn(heads, np.log(density), refused)

    def _density(self, rank: np.ndarray, known: np.ndarray, table: np.ndarray) -> np.ndarray:
        """Return the density of each distinct value given its code."""
        density = np.where(known, 1.0, self._unseen_mass)
        shares = known & (table == self._unseen_code)
        density[shares] *= self._seen_share
        if len(self.infrequent_mass_):
            mass = np.append(np.ones(self._n_frequent), self.infrequent_mass_)
            density[known & (rank >= 0)] *= mass[rank[known & (rank >= 0)]]
        return density

    def _refuse(self, codes: np.ndarray, values: np.ndarray, rank: np.ndarray) -> str | None:
        """Return why `transform` does not take these values, or None."""
        if self.handle_unknown != "error":
            return None
        if not self.missing_ and (codes < 0).any():
            return (
                "found a missing value, and fit saw none. Fill it, or fit on a table that has "
                "missing values in this column too"
            )
        if self._forgets or (rank >= 0).all():
            return None
        return (
            f"found unknown categories {list(values[rank < 0][:3])}. Fit on a table that has "
            "them, or encode them as an infrequent category: "
            "CategoryCodec(handle_unknown='infrequent_if_exist')"
        )

    def limit(self, accepted: Accepted) -> Limit:
        values = set(accepted.values)
        is_in = np.array([value in values for value in self.categories_], dtype=float)
        mass = self._substitute_mass * is_in[self._substitutes]
        infrequent = float(mass.sum())
        if self.infrequent_label is not None:
            infrequent = float(self.infrequent_label in values)
        share = np.concatenate(
            [
                is_in[: self._n_frequent],
                [infrequent] * self._has_infrequent,
                [float(accepted.missing)] * self.missing_,
            ]
        )
        stop = np.cumsum(self._substitute_mass)
        chosen = mass > 0
        bins = np.full(chosen.sum(), self._n_frequent)
        bound = np.full(chosen.sum(), np.inf)
        start, stop = (stop - self._substitute_mass)[chosen], stop[chosen]
        return Limit(share, bins, start, stop, -bound, bound)

    def outcomes(self) -> np.ndarray:
        """Return the categories whose probabilities `spread` returns."""
        label = self._has_infrequent and self.infrequent_label is not None
        return np.append(self.categories_, as_objects([self.infrequent_label] * label))

    def spread(self, by_code: np.ndarray) -> np.ndarray:
        """Return the probability of each category, from those of the codes that are present.

        Parameters
        ----------
        by_code : ndarray of shape (n_rows, n_codes)

        Returns
        -------
        by_category : ndarray of shape (n_rows, n_categories)
            In the order of `categories_`; with an infrequent label, this comes last.
        """
        if not self._has_infrequent:
            return by_code
        frequent, infrequent = by_code[:, : self._n_frequent], by_code[:, self._n_frequent :]
        if self.infrequent_label is not None:
            return by_code
        out = np.zeros((len(by_code), len(self.categories_)))
        out[:, : self._n_frequent] = frequent
        out[:, self._substitutes] += infrequent * self._substitute_mass
        return out

    def decode(self, heads: list[np.ndarray], n_samples: int) -> np.ndarray:
        codes = heads[0].astype(int)
        n_codes = self.heads_[0].n_categories  # type: ignore[union-attr]
        if len(codes) and not 0 <= codes.min() <= codes.max() < n_codes:
            raise ValueError(f"codes must be 0 to {n_codes - 1}, got {codes.min()}, {codes.max()}")
        frequent = self.categories_[: self._n_frequent]
        table = np.append(frequent, as_objects([self.infrequent_label] * self._has_infrequent))
        values = np.append(table, as_objects([None]))[codes]
        if len(self._substitutes):
            infrequent = codes == self._n_frequent
            place = heads[1][infrequent] if len(heads) > 1 else np.full(infrequent.sum(), 0.5)
            rank = np.searchsorted(np.cumsum(self._substitute_mass), place, side="right")
            rank = np.minimum(rank, len(self._substitutes) - 1)
            values[infrequent] = self.categories_[self._substitutes[rank]]
        return values


def are_texts(values: Iterable) -> bool:
    """Whether all values are texts or UUIDs."""
    return all(isinstance(value, str | uuid.UUID) for value in values)
