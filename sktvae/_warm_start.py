"""Continuing a fit: whether its parameters are those of the last one, and the history of both."""

from __future__ import annotations

from typing import Any

from sklearn.base import BaseEstimator


def check_unchanged(
    before: dict[str, Any],
    now: dict[str, Any],
    what: str = "warm_start=True continues",
    way_out: str = "set warm_start=False to start from scratch",
) -> None:
    """Raise ValueError if a parameter changed that what goes on from a fit cannot change.

    Parameters
    ----------
    before, now : dict of str to object
        Parameters that determine the network and the encoding, see `comparable`.
    what, way_out : str
        What goes on, and what starts from scratch instead, for the message.
    """
    changed = [name for name in now if now[name] != before[name]]
    if changed:
        raise ValueError(
            f"{what} with the network and the encoder of the last fit, but "
            f"{', '.join(changed)} changed since then. Undo the change, or {way_out}."
        )


def comparable(value: Any) -> Any:
    """Return a value that can be compared with ==, also for arrays and estimators.

    `n_jobs` and what `set_output` keeps make no difference.
    """
    if isinstance(value, BaseEstimator):
        params = sorted(value.get_params(deep=False).items())
        same = tuple((name, comparable(v)) for name, v in params if name != "n_jobs")
        return (type(value).__name__, same)
    value = value.tolist() if hasattr(value, "tolist") else value
    return tuple(map(comparable, value)) if isinstance(value, list | tuple) else value


def continued(
    before: dict[str, list[float]], new: dict[str, list[float]]
) -> dict[str, list[float]]:
    """Return the history of two fits; NaN where one of them has held out no rows."""
    names = [*before, *(name for name in new if name not in before)]
    gaps = [[float("nan")] * len(history["loss"]) for history in (before, new)]
    return {name: before.get(name, gaps[0]) + new.get(name, gaps[1]) for name in names}
