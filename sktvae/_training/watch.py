"""Watching a training from outside: a progress bar, and a way to stop it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from sktvae._training.rows import Turn

if TYPE_CHECKING:
    from tqdm import tqdm


class Watch:
    """What shows how far a training is, and lets another thread end it.

    Parameters
    ----------
    verbose : bool, default=False
        Whether to show a progress bar.
    name : str, default=None
        What is trained, in front of the bar.
    line : int, default=0
        The line of the bar, if several trainings are watched at once.
    """

    def __init__(self, verbose: bool = False, name: str | None = None, line: int = 0):
        self.verbose, self.name, self.line = verbose, name, line
        self._reason: type[BaseException] | None = None

    def stop(self) -> None:
        """End the training after its present step, as Ctrl-C would."""
        self._reason = self._reason or KeyboardInterrupt

    def abandon(self) -> None:
        """End the training after its present step, since nobody needs it any more."""
        self._reason = Abandoned

    def over(self, turns: Iterable[Turn]) -> Iterator[Turn]:
        """Yield the turns of a training; raise an error when it is to be ended."""
        for turn in turns:
            if self._reason is not None:
                raise self._reason
            yield turn

    def bar(self, n_epochs: int) -> tqdm:
        from tqdm.auto import tqdm

        return tqdm(
            total=n_epochs,
            disable=not self.verbose,
            unit="epoch",
            desc=self.name,
            position=self.line,
        )


class Abandoned(Exception):
    """A training was ended because another one has failed."""


UNWATCHED = Watch()
