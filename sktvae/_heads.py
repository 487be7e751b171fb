"""The contract between the table side and the torch side: what one encoded column is.

A head is one column of the encoded table together with its likelihood. Codecs declare heads, the
network reads them; neither knows anything else of the other.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Categorical:
    """An integer code in ``0 .. n_categories - 1``, drawn from a softmax.

    Attributes
    ----------
    n_categories : int
    n_ordered : int, default=0
        So many codes, the first ones, stand for numbers in rising order.
    refines : bool, default=False
        Whether this is a finer part of the head before it, as a bin in a coarser bin.
    """

    n_categories: int
    n_ordered: int = 0
    refines: bool = False


@dataclass(frozen=True)
class Gaussian:
    """A real number in [-1, 1]: Gaussian with a tanh mean and a learned standard deviation.

    Attributes
    ----------
    refines : bool, default=False
        Whether this is a finer part of the head before it, as the position in a mode.
    """

    refines: bool = False


@dataclass(frozen=True)
class Uniform:
    """A position in [0, 1), independent of everything else: nothing to learn, only to draw.

    Codecs use it to spread one code over the values that the code stands for, so that all
    randomness of generation stays in the draw and ``inverse_transform`` is deterministic.
    """


Head = Categorical | Gaussian | Uniform
