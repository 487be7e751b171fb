"""Saved estimators say which version of sktvae saved them."""

from typing import Any

from sktvae._version import __version__
from sktvae._warnings import warn_user


class VersionedMixin:
    """A mixin for estimators that warns when one is loaded by another version of sktvae."""

    def __getstate__(self) -> dict:
        return super().__getstate__() | {"_sktvae_version": __version__}  # type: ignore[misc]

    def __setstate__(self, state: dict) -> None:
        state = dict(state)
        version: Any = state.pop("_sktvae_version", "unknown")
        if version != __version__:
            warn_user(
                f"This {type(self).__name__} was saved by sktvae {version} and is loaded by sktvae "
                f"{__version__}; it may fail or give different results. Fit it again, or "
                f"install sktvae=={version}."
            )
        super().__setstate__(state)  # type: ignore[misc]
