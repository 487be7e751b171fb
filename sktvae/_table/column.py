"""`Column`: the interface of one kind of column; `Storage`: how its values are held."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pandas as pd


def with_none(values: np.ndarray, absent: np.ndarray) -> np.ndarray:
    """Return values as an object array, with None where they are missing."""
    objects = values.astype(object)
    objects[absent] = None
    return objects


class Storage(ABC):
    """How the values of a column are held, whatever they mean.

    Storages keep plain Python values only, and no pandas objects, so that models can be saved
    with skops. `Column.read` looks at the dtype at hand, which may differ from that in `fit`;
    `hold` gives the column back as `fit` saw it.

    Attributes
    ----------
    python_type : str or None
        The common type of Python objects that are numbers or times.
    meaning : {"number", "datetime", "timedelta", "category", None}
        What values of a pyarrow type are; None if the dtype of the Series says so.
    scale : int or None
        The decimals of a decimal type.
    """

    python_type: str | None = None
    meaning: str | None = None
    scale: int | None = None

    @property
    @abstractmethod
    def dtype(self) -> Any:
        """The dtype of the pandas Series that `hold` returns."""

    @abstractmethod
    def hold(self, values: np.ndarray, absent: np.ndarray) -> pd.Series:
        """Return a Series that holds these values.

        Parameters
        ----------
        values : ndarray of shape (n_samples,)
            int64, float64, datetime64, timedelta64 or object.
        absent : bool ndarray of shape (n_samples,)
            Where the value is missing; `values` is arbitrary there.
        """

    def public(self, nullable: bool) -> Storage:
        """Return the storage without what it says about the values but their type.

        Parameters
        ----------
        nullable : bool
            Whether the dtype must not tell that no value is missing.
        """
        return self

    @property
    def can_hold_missing(self) -> bool:
        """Whether the dtype has a place for missing values."""
        return not (isinstance(self.dtype, np.dtype) and self.dtype.kind in "iub")

    @property
    def integer_limits(self) -> tuple[float, float] | None:
        """Smallest and largest integer of an integer dtype; None for any other storage."""
        dtype = getattr(self.dtype, "numpy_dtype", self.dtype)
        if isinstance(dtype, np.dtype) and dtype.kind in "iu":
            return np.iinfo(dtype).min, np.iinfo(dtype).max
        return None

    @property
    def float_limits(self) -> tuple[float, float]:
        """Smallest and largest float of the dtype (those of float64 if it is none)."""
        dtype = getattr(self.dtype, "numpy_dtype", self.dtype)
        narrow = isinstance(dtype, np.dtype) and dtype.kind == "f"
        info = np.finfo(dtype if narrow else np.float64)
        return float(info.min), float(info.max)

    @property
    def float_precision(self) -> float:
        """Relative distance between neighbouring floats of the dtype (that of float64 if none)."""
        dtype = getattr(self.dtype, "numpy_dtype", self.dtype)
        narrow = isinstance(dtype, np.dtype) and dtype.kind == "f"
        return float(np.finfo(dtype if narrow else np.float64).eps)


@dataclass(frozen=True)
class Column(ABC):
    """One column of the user's table: what is modelled, and how it is held.

    A new kind of column is a subclass, and an entry of `sktvae._table.schema.KINDS`.

    Attributes
    ----------
    name : hashable
        The label of the column.
    storage : Storage
        How the values are held.
    """

    name: Hashable
    storage: Storage

    is_numeric: ClassVar[bool] = True  # whether the plain column holds float64 numbers

    @property
    def has_fixed_categories(self) -> bool:
        """Whether the dtype lists its categories, so that it cannot hold any others."""
        return False

    @property
    def limits(self) -> tuple[float, float]:
        """The smallest and the largest number of the plain column that the dtype can hold."""
        return -np.inf, np.inf

    def without(self, values: list) -> Column:
        """Return the column with these categories taken from its dtype, if it lists any."""
        return self

    @property
    def can_hold_text(self) -> bool:
        """Whether the dtype can hold any text."""
        return False

    def only(self, values: Any) -> Column:
        """Return the column with these categories left in its dtype, if it lists any."""
        return self

    def public(self, nullable: bool = False) -> Column:
        """Return the column without what it says about its values but their type.

        Parameters
        ----------
        nullable : bool, default=False
            Whether the dtype must not tell that no value is missing.

        Raises
        ------
        ValueError
            If the values have to be looked at to know what the column is.
        """
        if self.storage.python_type is not None:
            raise ValueError(
                f"Column {self.name!r} holds Python objects of type {self.storage.python_type}. "
                "For a private fit its dtype must say what it holds, so that no value has to be "
                "looked at: convert it, for instance by pandas.to_datetime, pandas.to_timedelta "
                f"or X[{self.name!r}].astype('Int64'), or drop it."
            )
        return replace(self, storage=self.storage.public(nullable))

    @property
    @abstractmethod
    def kind(self) -> str:
        """The word for this kind of column in messages and in ``encoder_.columns_``."""

    @classmethod
    @abstractmethod
    def recognise(cls, name: Hashable, series: pd.Series, storage: Storage) -> Column | None:
        """Return a column of this kind, or None if the Series holds something else."""

    @abstractmethod
    def read(self, series: pd.Series) -> Any:
        """Return the plain column."""

    @abstractmethod
    def write(self, plain: Any) -> pd.Series:
        """Return a plain column as the user had it."""

    def as_read_by(self, other: Column, plain: Any) -> Any:
        """Return a plain column of this column as another one of its kind would read it."""
        return plain

    @property
    def dtype_name(self) -> str:
        """The name of the dtype in messages."""
        return str(self.storage.dtype)
