"""Columns of categories: text, booleans and every other hashable value."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from sktvae._table.column import Column, Storage
from sktvae._table.storage import CategoricalStorage, objects_of


@dataclass(frozen=True)
class CategoryColumn(Column):
    """Hashable values, whose order is not modelled; the plain column is a Series of them."""

    is_numeric: ClassVar[bool] = False

    @property
    def kind(self) -> str:
        return "category"

    @classmethod
    def recognise(cls, name: Hashable, series: pd.Series, storage: Storage) -> Column | None:
        return cls(name, storage)

    @property
    def has_fixed_categories(self) -> bool:
        """Whether the dtype lists its categories, so that it cannot hold any others."""
        return isinstance(self.storage, CategoricalStorage)

    @property
    def can_hold_text(self) -> bool:
        dtype = self.storage.dtype
        if isinstance(self.storage, CategoricalStorage):
            dtype = pd.api.types.pandas_dtype(self.storage.values_dtype)
        if isinstance(dtype, pd.ArrowDtype):
            return dtype.type is str
        return bool(pd.api.types.is_object_dtype(dtype) or pd.api.types.is_string_dtype(dtype))

    def without(self, values: list) -> Column:
        if not values or not isinstance(self.storage, CategoricalStorage):
            return self
        taken = set(values)
        left = tuple(value for value in self.storage.values if value not in taken)
        return replace(self, storage=replace(self.storage, values=left))

    def only(self, values: Any) -> Column:
        if not isinstance(self.storage, CategoricalStorage):
            return self
        kept = set(values)
        return self.without([value for value in self.storage.values if value not in kept])

    def read(self, series: pd.Series) -> pd.Series:
        return objects_of(self.name, series)

    def write(self, plain: Any) -> pd.Series:
        values = np.asarray(plain, dtype=object)
        return self.storage.hold(values, np.asarray(pd.isna(values)))
