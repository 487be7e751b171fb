"""The decimal grid of a column of numbers: where it is found, and rounding to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MAX_DECIMALS = 15
# Integers beyond this are not exact in float64, in which all numbers are modelled.
LARGEST_INTEGER = 2**53


@dataclass(frozen=True)
class DecimalGrid:
    """A number of decimals, or none.

    Attributes
    ----------
    decimals : int or None
        None if the numbers have more decimals than a float can hold.

    Examples
    --------
    >>> import numpy as np
    >>> from sktvae._table.decimals import DecimalGrid
    >>> grid = DecimalGrid.of(np.array([1.5, 2.25]))
    >>> grid
    DecimalGrid(decimals=2)
    >>> grid.round(np.array([1.234, 9.999]))
    array([ 1.23, 10.  ])
    """

    decimals: int | None

    @classmethod
    def of(cls, values: np.ndarray) -> DecimalGrid:
        """Return the coarsest grid that holds every value exactly. NaN is ignored."""
        values = np.unique(values[~np.isnan(values)])
        largest = float(np.abs(values).max(initial=0))
        for decimals in range(MAX_DECIMALS + 1):
            if decimals and largest * 10.0**decimals > LARGEST_INTEGER:
                return cls(None)  # rounding to so many decimals would not change any value
            if np.array_equal(np.round(values, decimals), values):
                return cls(decimals)
        return cls(None)

    @property
    def step(self) -> float:
        """The distance between neighbours on the grid; 1.0 if there is no grid."""
        return 1.0 if self.decimals is None else 10.0**-self.decimals

    def round(self, values: np.ndarray) -> np.ndarray:
        """Round to the grid; without a grid, return the values unchanged."""
        return values if self.decimals is None else np.round(values, self.decimals)

    def ceil(self, values: np.ndarray) -> np.ndarray:
        """Round up to the grid; without a grid, return the values unchanged."""
        if self.decimals is None:
            return values
        rounded = self.round(values)
        return self.round(np.where(rounded < values, rounded + self.step, rounded))

    def finest(self, other: DecimalGrid) -> DecimalGrid:
        """Return the grid on which sums and differences of numbers of both grids lie."""
        if self.decimals is None or other.decimals is None:
            return DecimalGrid(None)
        return DecimalGrid(max(self.decimals, other.decimals))


@np.errstate(over="ignore")  # of numbers near the largest float, which lie on no coarser grid
def almost_on_grid(
    values: np.ndarray, counts: np.ndarray, grid: DecimalGrid, *, at_most: float = 0.01
) -> tuple[int, float] | None:
    """Find a much coarser grid that all rows lie on, up to rounding errors and a few cells.

    Cells such as 3.3000000000000003, or a sentinel such as 9.99e15, take the decimals away from a
    whole column; this finds one of them.

    Parameters
    ----------
    values, counts : ndarray of shape (n_values,)
        Distinct values and the number of rows of each.
    grid : DecimalGrid
        The grid of all of them.
    at_most : float, default=0.01
        Largest share of rows that may lie off the coarser grid.

    Returns
    -------
    decimals : int
    offender : float
        A value that is not on the coarser grid; the pair is None if there is no such grid.
    """
    finest = MAX_DECIMALS if grid.decimals is None else grid.decimals
    for decimals in range(min(5, finest - 3)):
        rounded = np.round(values, decimals)
        has_room = np.abs(values) * 10.0**decimals <= LARGEST_INTEGER
        exact = has_room & (rounded == values)
        near = has_room & (np.abs(rounded - values) <= 4 * np.spacing(np.abs(values)))
        if not exact.all() and counts[~near].sum() <= at_most * counts.sum():
            return decimals, float(values[~exact][0])
    return None


def shortest_decimals(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return numbers of a narrow float dtype with as few decimals as tell them apart.

    For example, 0.1 in float32 is 0.10000000149...; the column is meant to hold 0.1.

    Parameters
    ----------
    values : float64 ndarray
    dtype : numpy dtype
        The narrow float dtype that the values had.
    """
    out, left = values.copy(), np.ones(len(values), dtype=bool)
    for decimals in range(np.finfo(dtype).precision + 1):
        rounded = np.round(values, decimals)
        with np.errstate(over="ignore"):
            found = left & (rounded.astype(dtype) == values.astype(dtype))
        out[found] = rounded[found]
        left &= ~found
    return out
