"""Seeds derived from scikit-learn's `random_state`; the global generators are never used."""

import numbers

import numpy as np


def seed_of(random_state):
    """Return an integer seed.

    Parameters
    ----------
    random_state : int, RandomState instance, Generator instance or None
        None gives a fresh seed from the operating system. Instances are advanced by one draw.

    Returns
    -------
    seed : int

    Raises
    ------
    ValueError
        If `random_state` is something else, or a negative integer.

    Examples
    --------
    >>> from sktvae._random import seed_of
    >>> seed_of(3)
    3
    """
    if random_state is None:
        return np.random.SeedSequence().entropy
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31))
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**31))
    is_integer = isinstance(random_state, numbers.Integral) and not isinstance(random_state, bool)
    if not is_integer or random_state < 0:
        raise ValueError(
            "random_state must be an integer >= 0, a numpy RandomState or Generator, or None, "
            f"got {random_state!r}."
        )
    return int(random_state)


def seeds_of(random_state, n_seeds, call=0):
    """Return `n_seeds` independent integer seeds derived from one `random_state`.

    With an integer, those of different calls differ.
    """
    sequence = np.random.SeedSequence(seed_of(random_state), spawn_key=(call,) if call else ())
    return [int(seed) for seed in sequence.generate_state(n_seeds)]
