"""Warnings that point at the user's own line."""

from __future__ import annotations

import sys
import warnings
from types import FrameType

# Frames of these packages are skipped: the call that the user made is outside them.
_SKIPPED = ("sktvae", "sklearn", "joblib", "imblearn", "concurrent", "threading")


def warn_user(message: str, category: type[Warning] = UserWarning) -> None:
    """Issue a warning at the nearest caller outside sktvae and the packages in `_SKIPPED`."""
    level = 1
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_globals.get("__name__", "").split(".")[0] in _SKIPPED:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
