"""`PrivateSummaries`: what codecs learn from, made from noisy histograms of the columns."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from sktvae._encoding.category import CategoryCodec
from sktvae._encoding.codec import Codec, NumberCodec
from sktvae._encoding.encoder import TableEncoder
from sktvae._encoding.key import DropCodec
from sktvae._encoding.summary import ColumnSummary, as_objects, sorted_order
from sktvae._heads import Categorical
from sktvae._privacy.magnitudes import (
    N_DECIMALS,
    Magnitudes,
    count_fineness,
    count_magnitudes,
    decimals_of,
)
from sktvae._privacy.mechanisms import Histograms, Release
from sktvae._privacy.numbers import Known, summarise_numbers
from sktvae._table.column import Column
from sktvae._table.decimals import LARGEST_INTEGER
from sktvae._table.numbers import NumberColumn
from sktvae._table.storage import ObjectStorage
from sktvae._table.times import UNITS, TimeColumn, ticks_in, units_of
from sktvae._warnings import warn_user

# The first of January 2020, in days since 1970: near most times in tables, and no secret.
_DAY_ZERO = 18_262.0
# A column is warned about if less than this share of its rows has a category that is kept.
_FEWEST_KEPT = 0.5


@dataclass(frozen=True)
class Measurement:
    """One histogram that will be made.

    Attributes
    ----------
    column : hashable
    what : str
    has_unknown_keys : bool
        Whether its keys are unknown, so that only those with many rows are released, and one that
        a single row has with a probability of at most delta.
    """

    column: Hashable
    what: str
    has_unknown_keys: bool


class PrivateSummaries:
    """Summaries of columns from noisy histograms, for `TableEncoder.fit_encode(private=...)`.

    How many histograms there are follows from names, dtypes and what was declared. Each row counts
    in exactly one bin of each. What they say is then made consistent, without the data.

    Noise comes from the operating system's entropy and cannot be seeded.

    Parameters
    ----------
    settings : DifferentialPrivacy
        `bounds` and `categories` are read.
    sigma : float
        Standard deviation of the noise of each count.
    delta_per_threshold : float
        For each histogram with unknown keys: the probability, at most, that a key of a single row
        is released.
    n_rows : float
        The number of rows, with noise.

    Attributes
    ----------
    releases : list of Release
        The histograms that were made.

    Examples
    --------
    >>> import pandas as pd
    >>> from sktvae import DifferentialPrivacy, TableEncoder
    >>> from sktvae._privacy.summaries import PrivateSummaries
    >>> X = pd.DataFrame({"smoker": ["no"] * 700 + ["yes"] * 300})
    >>> settings, encoder = DifferentialPrivacy(), TableEncoder()
    >>> plan = PrivateSummaries.plan(encoder.columns_to_learn(X), settings)
    >>> plan
    [Measurement(column='smoker', what='categories', has_unknown_keys=True)]
    >>> private = PrivateSummaries(settings, sigma=5.0, delta_per_threshold=1e-6, n_rows=1000)
    >>> encoded = encoder.fit_encode(X, private=private)
    >>> encoder.codecs_[0].categories_
    array(['no', 'yes'], dtype=object)
    """

    def __init__(
        self,
        settings: Any,
        sigma: float,
        delta_per_threshold: float,
        n_rows: float,
    ):
        self.settings, self.n_rows = settings, float(n_rows)
        self._planned: list[Measurement] = []
        self._made: list[ColumnSummary] = []
        self._histograms = Histograms(float(sigma), float(delta_per_threshold))
        self._magnitudes: dict[Hashable, Magnitudes] = {}
        self._poor: list[Hashable] = []

    @staticmethod
    def plan(learned: Sequence[tuple[Column, Codec]], settings: Any) -> list[Measurement]:
        """Return the histograms that will be made, knowing names, dtypes and what was declared.

        Parameters
        ----------
        learned : sequence of (Column, Codec)
            As `TableEncoder.columns_to_learn` gives them.
        settings : DifferentialPrivacy

        Raises
        ------
        ValueError
            If bounds or categories are declared for columns that cannot have them.
        """
        _check_declared(learned, settings)
        plan = []
        for column, codec in learned:
            if isinstance(codec, NumberCodec):
                what = _known(column, settings).plan()
            elif _is_public(column, settings):
                what = [("categories", False)]
            else:
                what = [("categories", True)]
            plan += [Measurement(column.name, *one) for one in what]
        return plan

    @property
    def releases(self) -> list[Release]:
        return self._histograms.releases

    # What the encoder calls

    def begin(self, learned: list[tuple[Column, Codec]], n_rows: int) -> None:
        """Plan the histograms, each of which must count so many rows."""
        if self.releases:
            raise RuntimeError("These summaries have been made already; make new ones.")
        self._planned = self.plan(learned, self.settings)
        self._histograms.n_rows = n_rows

    def refine(self, column: Column, codec: Codec, series: pd.Series) -> Column:
        """Return the column with its unit, if it holds times, which is counted with noise."""
        if not isinstance(column, TimeColumn) or not isinstance(codec, NumberCodec):
            return column
        # In days, times of any year can be read.
        units, days = units_of(series), replace(column, unit="D").read(series) - _origin(column)
        finest, n_units = column.unit, len(UNITS)
        if column.name in (self.settings.bounds or {}):
            unit = count_fineness(self._histograms, column.name, units, np.isnan(days), n_units)
            low, high = _read_ends(column, self.settings.bounds[column.name])
            while unit < UNITS.index(finest) and high - low < ticks_in(UNITS[unit], finest):
                unit += 1
        else:
            found = count_magnitudes(self._histograms, column.name, days, units, n_units)
            self._magnitudes[column.name], unit = found, found.fineness
            latest = 2.0 ** max((octave + 1 for _, octave in found.octaves), default=0)
            while unit > 0 and latest * ticks_in("D", UNITS[unit]) > LARGEST_INTEGER:
                unit -= 1
        return replace(column, unit=UNITS[min(unit, UNITS.index(finest))])

    def summarise(self, column: Column, codec: Codec, plain: Any) -> ColumnSummary:
        """Return the private summary of a plain column."""
        is_number = isinstance(codec, NumberCodec)
        made = (self._numbers if is_number else self._categories)(column, codec, plain)
        self._made.append(made)
        return made

    def finish(self) -> None:
        """Check that every histogram was made, and warn about columns that noise has hidden."""
        made = [(release.column, release.what) for release in self.releases]
        if sorted(map(repr, made)) != sorted(repr((m.column, m.what)) for m in self._planned):
            raise RuntimeError(
                f"These histograms were planned: {self._planned}, and these made: {made}"
            )
        if self._poor:
            warn_user(
                f"Columns {self._poor}: the noise of differential privacy hides most of what they "
                "hold, because the table has too few rows for this epsilon. Declare their bounds "
                "or categories if they are public knowledge (DifferentialPrivacy(bounds=..., "
                "categories=...)), raise epsilon, or drop columns, so that less is spent."
            )

    # For the rest of a private fit

    def frequencies(self, encoder: TableEncoder) -> torch.Tensor:
        """Return the private relative frequency of each code.

        Parameters
        ----------
        encoder : TableEncoder
            Fitted to these summaries.

        Returns
        -------
        frequency : float tensor of shape (n_codes,)
            The codes of all categorical heads, one head after the other.
        """
        every: list[Any] = encoder.codecs_
        codecs = [codec for codec in every if not isinstance(codec, DropCodec)]
        parts = []
        for codec, made in zip(codecs, self._made, strict=True):
            nothing = [np.nan] if isinstance(codec, NumberCodec) else as_objects([None])
            mass = np.append(made.counts, made.missing)
            coded = codec.encode(pd.Series(np.append(made.values, nothing))).heads
            for head, codes in zip(codec.heads_, coded, strict=True):
                if isinstance(head, Categorical):
                    parts.append(np.bincount(codes, mass, head.n_categories) / mass.sum())
        return torch.from_numpy(np.concatenate([*parts, np.empty(0)])).float()

    # Numbers

    def _numbers(self, column: Column, codec: Codec, plain: Any) -> ColumnSummary:
        known = _known(column, self.settings)
        scale, origin, found = 1.0, 0.0, self._magnitudes.get(column.name)
        if isinstance(column, TimeColumn):
            scale = float(ticks_in("D", column.unit))
            origin = scale * _origin(column)
            low, high = known.low - origin, known.high - origin
            known = replace(known, low=low, high=high, decimals=0)  # of the unit that was found
        elif not known.is_bounded and not known.is_short:
            fineness, n_fine = np.zeros(len(plain), dtype=int), 1
            if known.decimals is None:
                fineness, n_fine = decimals_of(plain), N_DECIMALS
            found = count_magnitudes(self._histograms, column.name, plain, fineness, n_fine)
        summary, learned = summarise_numbers(self._histograms, known, plain - origin, found, scale)
        if not learned:
            self._poor.append(column.name)
        return replace(summary, values=summary.values + origin)

    # Categories

    def _categories(self, column: Column, codec: Codec, plain: Any) -> ColumnSummary:
        series = plain if isinstance(plain, pd.Series) else pd.Series(plain)
        codes, values = pd.factorize(series)
        values = _of_one_form(column, as_objects(values))
        can_be_missing = column.storage.can_hold_missing
        least = getattr(codec, "min_samples", 1)
        if _is_public(column, self.settings):
            declared = _declared(column, self.settings)
            kept, counts, missing, rest = self._of_declared(column, codes, values, declared)
            rows = np.maximum(counts, least)  # what is public needs no protection
        else:
            keys, counts, missing = self._histograms.of_keys(
                column.name, "categories", codes.astype(np.int64), apart=codes < 0
            )
            kept, rows = values[keys], counts
            rest = self.n_rows - counts.sum() - max(missing, 0.0)
        # What is not more than noise is taken for none.
        noise = self._histograms.sigma
        missing = missing if missing > 3 * noise and can_be_missing else 0.0
        rest = rest if rest > 3 * noise * np.sqrt(len(kept) + 1) else 0.0
        is_known = _is_public(column, self.settings)
        if not is_known and counts.sum() <= _FEWEST_KEPT * (counts.sum() + rest):
            self._poor.append(column.name)
        return _with_rest(column, codec, ColumnSummary(kept, counts, missing, rows), rest)

    def _of_declared(
        self, column: Column, codes: np.ndarray, values: np.ndarray, declared: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, float, float]:
        """Return declared categories, their noisy counts, those of missing and of other values."""
        n = len(declared)
        at = pd.Index(declared, dtype=object).get_indexer(pd.Index(values, dtype=object))
        at = np.append(np.where(at < 0, n, at), n + 1)  # others; then missing, of code -1
        noisy = self._histograms.of_bins(column.name, "categories", at[codes], n + 2)
        return declared, np.maximum(noisy[:n], 0.5), float(noisy[n + 1]), float(noisy[n])


def _with_rest(column: Column, codec: Codec, summary: ColumnSummary, rest: float) -> ColumnSummary:
    """Return a sorted summary with the rows of other categories, which are infrequent."""
    values, counts, rows = summary.values, summary.counts, summary.rows
    label = getattr(codec, "infrequent_label", None)
    if not len(values) and label is None:
        if column.storage.can_hold_missing:
            return replace(summary, values=values, missing=max(summary.missing, 1.0))
        values, counts, rows = as_objects([0.0]), np.ones(1), np.ones(1)
    elif rest > 0 and isinstance(codec, CategoryCodec):
        # A category of no rows is not kept: its code decodes to the label, or to other categories.
        label = "infrequent" if label is None else label
        if label in values.tolist():
            counts = counts + rest * (values == label)
        else:
            values = np.append(values, as_objects([label]))
            counts, rows = np.append(counts, rest), np.append(rows, 0.0)
    elif not len(values) and not summary.missing:
        values, counts, rows = as_objects([label]), np.ones(1), np.zeros(1)
    order = sorted_order(values)
    return ColumnSummary(values[order], counts[order], summary.missing, rows[order])


def _of_one_form(column: Column, values: np.ndarray) -> np.ndarray:
    """Return distinct categories in a form that does not tell which row was the first to have them.

    Equal values may look different, such as 0.0 and -0.0, and a pickle shows which equal texts are
    one object.

    Raises
    ------
    TypeError
        If Python objects of one form are not known.
    """
    if column.is_numeric:
        return as_objects(values.astype(float) + 0.0)
    form = _object_of_one_form if isinstance(column.storage, ObjectStorage) else _text_of_one_form
    try:
        return as_objects(map(form, values))
    except TypeError as error:
        raise TypeError(
            f"Column {column.name!r} holds {error}. A private fit takes objects that are text, "
            "booleans, bytes or UUIDs, whose equals look the same. Convert the column: "
            f"X[{column.name!r}].astype(str)."
        ) from None


def _text_of_one_form(value: Any) -> Any:
    return sys.intern(str.__str__(value)) if isinstance(value, str) else value


def _object_of_one_form(value: Any) -> Any:
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, bytes):
        return bytes(bytearray(value))
    if isinstance(value, uuid.UUID):
        return uuid.UUID(int=value.int)
    if not isinstance(value, str):
        raise TypeError(f"{value!r} ({type(value).__name__})")
    return _text_of_one_form(value)


def _origin(column: TimeColumn) -> float:
    """Return the day, since 1970, around which times are told apart most finely."""
    return _DAY_ZERO if column.meaning == "datetime" else 0.0


def _is_bool(column: Column) -> bool:
    return (
        bool(pd.api.types.is_bool_dtype(column.storage.dtype)) and not column.has_fixed_categories
    )


def _is_public(column: Column, settings: Any) -> bool:
    """Whether all categories of a column are known without looking at it."""
    return _is_bool(column) or column.name in (settings.categories or {})


def _declared(column: Column, settings: Any) -> np.ndarray:
    """Return the known categories as the plain column holds them."""
    declared = (settings.categories or {}).get(column.name)
    if declared is None:
        return as_objects([False, True])
    values = list(dict.fromkeys(declared))
    if column.is_numeric:
        return as_objects(column.read(pd.Series(values)).tolist())
    return as_objects([value for value in values if pd.notna(value)])


def _known(column: Column, settings: Any) -> Known:
    """Return what dtype and declaration say of a column of numbers or times."""
    (low, high), decimals = column.limits, None
    ends = (settings.bounds or {}).get(column.name)
    if isinstance(column, NumberColumn):
        decimals = 0 if column.whole else column.decimals
    if ends is not None:
        low, high = _read_ends(column, ends)
        unit = 10.0 ** (decimals or 0)
        if decimals is not None:
            low, high = np.ceil(low * unit) / unit, np.floor(high * unit) / unit
    return Known(
        column.name,
        float(low),
        float(high),
        is_bounded=ends is not None,
        decimals=decimals,
        can_be_missing=column.storage.can_hold_missing,
        has_unit=isinstance(column, TimeColumn),
    )


def _read_ends(column: Column, ends: Any) -> tuple[float, float]:
    """Return declared bounds as numbers of the plain column."""
    declared = pd.Series(list(ends))
    if isinstance(column, TimeColumn):  # in days, times of any year can be read
        ticks = replace(column, unit="D").read(declared) * ticks_in("D", column.unit)
        near = np.rint(ticks)
        ticks = np.where(np.abs(ticks - near) < 1e-6, near, ticks)
        low, high = np.ceil(ticks[0]), np.floor(ticks[1])
    else:
        low, high = column.read(declared)
    return float(low), float(max(low, high))


def _check_declared(learned: Sequence[tuple[Column, Codec]], settings: Any) -> None:
    """Raise ValueError if bounds or categories are those of other columns."""
    numbers = [column.name for column, codec in learned if isinstance(codec, NumberCodec)]
    others = [column.name for column, codec in learned if not isinstance(codec, NumberCodec)]
    every: list[tuple[str, Mapping | None, list, list]] = [
        ("bounds", settings.bounds, numbers, others),
        ("categories", settings.categories, others, numbers),
    ]
    for what, declared, right, wrong in every:
        for name in declared or {}:
            if name in wrong:
                kind = "a category" if what == "bounds" else "encoded as a number"
                other = "categories" if what == "bounds" else "bounds"
                raise ValueError(
                    f"{what} names {name!r}, but this column is {kind}. Declare its {other}, or "
                    "choose another codec for it."
                )
            if name not in right:
                raise ValueError(
                    f"{what} names {name!r}, which is not a column that is learned: "
                    f"{numbers + others}."
                )
