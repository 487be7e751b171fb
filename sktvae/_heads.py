"""The contract between `_encoding` and `_model`: what one encoded column holds.

A head is one column of the encoded table together with its likelihood. Codecs declare heads and
the network reads them; the two know nothing else about each other.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Categorical:
    """An integer code in ``0 .. n_categories - 1`` with a softmax likelihood.

    Attributes
    ----------
    n_categories : int
        Number of codes.
    n_ordered : int, default=0
        The first `n_ordered` codes stand for numbers in ascending order.
    refines : bool, default=False
        Whether the code subdivides the head before it, as a fine bin subdivides a coarse bin.
    """

    n_categories: int
    n_ordered: int = 0
    refines: bool = False


@dataclass(frozen=True)
class Gaussian:
    """A real number in [-1, 1] with a Gaussian likelihood.

    The mean is the hyperbolic tangent of a network output and the standard deviation is learned.
    NaN means that the head does not apply to the row.

    Attributes
    ----------
    refines : bool, default=False
        Whether the number subdivides the head before it, as a position subdivides a mode.
    """

    refines: bool = False


@dataclass(frozen=True)
class Uniform:
    """A position in [0, 1) that is independent of everything else.

    Nothing about it is learned; it is only drawn. Codecs use it to spread one code over the values
    that the code stands for, so that all randomness of generation stays in the model's draw and
    ``inverse_transform`` is deterministic.
    """


Head = Categorical | Gaussian | Uniform
