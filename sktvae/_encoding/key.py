"""Columns that are not modelled: `KeyCodec` gives new identifiers, `DropCodec` gives nothing."""

from __future__ import annotations

import re
import uuid
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from sktvae._encoding.codec import Codec, EncodedColumn, single_column
from sktvae._encoding.sample_weight import row_weights
from sktvae._encoding.summary import ColumnSummary, as_objects, estimated_richness
from sktvae._random import seed_of
from sktvae._table.decimals import DecimalGrid


class _NotModelled(Codec):
    """A codec without heads.

    For scores, every value is taken to be equally likely: between the smallest and the largest
    number, or among as many categories as there are estimated to be (Chao 1984). A model that knows
    more has a higher likelihood, so that dropping a column does not improve the score of a
    synthesizer. The number of possible values is all that is kept for this purpose.
    """

    _head_names = ()

    def _fit(self, summary: ColumnSummary) -> None:
        total = summary.n_samples
        self.missing_ = summary.missing > 0
        self.heads_ = ()
        missing = summary.missing / total if self.missing_ else 1 / (total + 1)
        self._log_missing = float(np.log(missing))
        self._log_present = 0.0
        if len(summary.values):
            self._log_present = float(np.log1p(-missing) - _log_support(summary))

    def summarise(self, X: Any, sample_weight: Any = None) -> ColumnSummary:
        column = single_column(X)
        weight = row_weights(sample_weight, column)
        if pd.api.types.is_numeric_dtype(column.dtype):
            return ColumnSummary.of_numbers(column.to_numpy(dtype=float, na_value=np.nan), weight)
        return ColumnSummary.of_categories(column, weight)

    def _encode(self, column: Any, log_density: bool) -> EncodedColumn:
        density = np.where(pd.isna(column), self._log_missing, self._log_present)
        return EncodedColumn([], density)


class DropCodec(_NotModelled):
    """The codec of a column that is left out of decoded tables (``"drop"``)."""

    def check_column(self, column: Any, kind: str, related: bool) -> None:
        if related:
            raise ValueError(
                f"Column {column.name!r} is part of a relation, so it cannot be dropped. Drop it "
                "from the synthetic table instead."
            )

    def decode(self, heads: list[np.ndarray], n_samples: int) -> np.ndarray:
        return np.full(n_samples, np.nan)


class KeyCodec(_NotModelled):
    """Replace unique identifiers by new ones; nothing is encoded.

    An identifier such as a customer number says nothing about the rest of its row, and a real one
    in a synthetic table identifies a person. So nothing is encoded, and decoding gives the rows new
    identifiers that look like those of `fit`: numbers continue after the largest; texts with a
    common prefix and suffix around a number continue likewise ("C0042" to "C0043", with as many
    digits); UUIDs are drawn; and other texts become ``key-1``, ``key-2``, ....

    Identifiers are unique within a table; the next table of the same codec has the same ones.

    Parameters
    ----------
    random_state : int, RandomState instance or None, default=None
        Seed of the UUIDs.

    Attributes
    ----------
    form_ : {"number", "text", "uuid"}
        What the identifiers are.
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
    _template = re.compile(r"(.*?)([0-9]{1,18})([^0-9]*)", re.DOTALL)

    def __init__(self, random_state: Any = None):
        self.random_state = random_state

    def check_column(self, column: Any, kind: str, related: bool) -> None:
        if related:
            raise ValueError(
                f"Column {column.name!r} is part of a relation, so it cannot be a key. Omit the "
                "relation or the KeyCodec."
            )
        if column.has_fixed_categories:
            raise ValueError(
                f"Column {column.name!r} has the category dtype, which cannot hold new keys. "
                f"Convert it to text: X[{column.name!r}].astype(str)."
            )

    def summarise(self, X: Any, sample_weight: Any = None) -> ColumnSummary:
        return super().summarise(X)  # a weight does not make a key occur twice

    def _fit(self, summary: ColumnSummary) -> None:
        if summary.missing:
            raise ValueError(
                "the column has a missing value, so it is not a key. Use another codec"
            )
        values = summary.values
        if (summary.looked_at > 1).any():
            twice = values[np.argmax(summary.looked_at > 1)]
            shown = repr(twice) if values.dtype == object else f"{twice:g}"
            raise ValueError(
                f"the column holds {shown} twice, so it is not a key. Use another codec"
            )
        super()._fit(summary)
        self._prefix, self._suffix, self._n_digits, self.start_ = "", "", 0, 1
        if values.dtype != object:
            self.form_, self.start_ = "number", int(np.floor(values.max())) + 1
            return
        wrong = [value for value in values if not isinstance(value, str | uuid.UUID)]
        if wrong:
            raise ValueError(
                f"the column holds {wrong[0]!r}, but KeyCodec takes only numbers, text and UUIDs. "
                "Convert it to text with astype(str), or drop the column"
            )
        if all(map(_is_uuid, values)):
            self._fit_uuids(values)
        else:
            self._fit_texts(values)

    def _fit_uuids(self, values: np.ndarray) -> None:
        # The keys themselves are part of the seed, so that a codec that is fitted on the keys of
        # another codec draws new ones.
        keys = zlib.crc32("".join(sorted(map(str, values))).encode())
        self.form_, self._seed = "uuid", [seed_of(self.random_state), keys]
        self._holds_objects = isinstance(values[0], uuid.UUID)
        self._is_upper = not self._holds_objects and values[0].upper() == values[0]

    def _fit_texts(self, values: np.ndarray) -> None:
        self.form_ = "text"
        parts = [self._template.fullmatch(str(value)) for value in values]
        matches = [part for part in parts if part]
        if len(matches) == len(parts) and len({(p[1], p[3]) for p in matches}) == 1:
            self._prefix, _, self._suffix = matches[0].groups()
            self.start_ = max(int(p[2]) for p in matches) + 1
            n_digits = {len(p[2]) for p in matches}
            self._n_digits = min(n_digits) if len(n_digits) == 1 else 0
            return
        self._prefix = "key-"
        while any(str(value).startswith(self._prefix) for value in values):
            self._prefix += "-"

    def decode(self, heads: list[np.ndarray], n_samples: int) -> np.ndarray:
        return self.new_keys(0, n_samples)

    def new_keys(self, first: int, n_samples: int) -> np.ndarray:
        """Return some of the new identifiers, from the one with index `first` on."""
        numbers = range(self.start_ + first, self.start_ + first + n_samples)
        if self.form_ == "number":
            return np.array(numbers, dtype=float)
        if self.form_ == "uuid":
            return as_objects(self._uuids(first, n_samples))
        return as_objects(f"{self._prefix}{i:0{self._n_digits}d}{self._suffix}" for i in numbers)

    def _uuids(self, first: int, n: int) -> Iterator:
        bits = np.random.PCG64(self._seed)
        random = np.random.Generator(bits.advance(2 * first)).bytes(16 * n)  # a step is eight bytes
        for i in range(0, len(random), 16):
            key = uuid.UUID(bytes=random[i : i + 16], version=4)
            if self._holds_objects:
                yield key
            else:
                yield str(key).upper() if self._is_upper else str(key)


def _is_uuid(value: Any) -> bool:
    if isinstance(value, uuid.UUID):
        return True
    if not isinstance(value, str) or len(value) != 36:
        return False
    try:
        return str(uuid.UUID(value)) == value.lower()
    except ValueError:
        return False


def _log_support(summary: ColumnSummary) -> float:
    """Return the logarithm of the number of possible values, or of the length of the range."""
    values = summary.values
    if values.dtype == object:
        return float(np.log(estimated_richness(summary.rows)))
    half_span = float(values[-1] / 2 - values[0] / 2)  # the whole one may overflow
    if half_span == 0:
        return 0.0
    grid = DecimalGrid.of(values)
    unit = 0.0 if grid.decimals is None else grid.step / 2
    return float(np.log(half_span + unit) - np.log(grid.step / 2))
