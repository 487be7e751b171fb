"""The processes that learn one model together: the ranks of an initialised `torch.distributed`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

_Number = TypeVar("_Number", int, float)

_ALONE = (
    "To fit in this process alone, call torch.distributed.destroy_process_group() before, or fit "
    "before the process group is initialised."
)


class Group:
    """The ranks of a fit, or, as `ALONE`, the only one.

    Every method but `own_seed` is to be called by all ranks, in the same order. What one rank does
    alone changes nothing: `ALONE` returns what it is given, and touches no number.

    Attributes
    ----------
    rank : int
        The number of this process.
    size : int
        The number of processes.
    """

    rank = 0
    size = 1

    def gather(self, obj: Any) -> list[Any]:
        """Return the (picklable) objects of all ranks, in the order of the ranks."""
        return [obj]

    def broadcast(self, obj: Any) -> Any:
        """Return the object of rank 0."""
        return self.gather(obj)[0]

    def total(self, n: _Number) -> _Number:
        """Return the sum of a number over all ranks."""
        return sum(self.gather(n))  # type: ignore[return-value]

    def sum_(self, tensor: Tensor) -> Tensor:
        """Replace a tensor, in place, by its sum over all ranks, the same bits on all of them."""
        return tensor

    def mean_(self, tensor: Tensor, weight: float = 1) -> Tensor:
        """Replace a tensor, in place, by its weighted mean over all ranks, in one all-reduce."""
        return tensor

    def own_seed(self, seed: int) -> int:
        """Return a seed of this rank, from one that all ranks have."""
        return seed

    def check_same(self, values: dict[str, Any]) -> None:
        """Raise ValueError on all ranks if a value is not the same on all of them."""

    def check_weights(self, module: nn.Module) -> None:
        """Raise RuntimeError on all ranks if the weights of a network are not the same on all."""

    def refuse(self, what: str) -> None:
        """Raise ValueError if there are several ranks, which cannot do this together."""

    @contextmanager
    def together(self) -> Iterator[None]:
        """Make an error of one rank within the context an error of all ranks.

        The context may hold calls of `gather` and of what rests on it, but none of `sum_` and
        `mean_`: a rank that has failed takes part in the next gathering of the others.
        """
        yield


ALONE = Group()


class _Ranks(Group):
    """The ranks of the default process group of `torch.distributed`."""

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()

    def gather(self, obj: Any) -> list[Any]:
        answers = self._exchange(None, obj)
        for rank, (failure, _) in enumerate(answers):
            if failure is not None:
                raise RankFailed(f"Rank {rank} of {self.size} failed: {failure}")
        return [answer for _, answer in answers]

    def _exchange(self, failure: str | None, obj: Any = None) -> list[tuple[str | None, Any]]:
        answers: list[Any] = [None] * self.size
        with self._contact():
            dist.all_gather_object(answers, (failure, obj))
        return answers

    def sum_(self, tensor: Tensor) -> Tensor:
        sent = tensor.to(_carrier(tensor.device))
        with self._contact():
            dist.all_reduce(sent)
        return tensor if sent is tensor else tensor.copy_(sent)

    def mean_(self, tensor: Tensor, weight: float = 1) -> Tensor:
        total = torch.full((1,), weight, dtype=tensor.dtype, device=tensor.device)
        sums = self.sum_(torch.cat([weight * tensor.detach().reshape(-1), total]))
        return tensor.copy_((sums[:-1] / sums[-1]).view_as(tensor))

    def own_seed(self, seed: int) -> int:
        return int(np.random.SeedSequence([seed, self.rank]).generate_state(1)[0])

    def check_same(self, values: dict[str, Any]) -> None:
        of_ranks = self.gather(values)
        for rank, others in enumerate(of_ranks):
            for name, value in of_ranks[0].items():
                if others.get(name) != value:
                    raise ValueError(
                        f"All ranks must have the same {name}, but it is {value} on rank 0 and "
                        f"{others.get(name)} on rank {rank}. Under an initialised "
                        f"torch.distributed, all processes fit one model together. {_ALONE}"
                    )

    def check_weights(self, module: nn.Module) -> None:
        of_ranks = self.gather(_digest(module))
        for rank, found in enumerate(of_ranks):
            if found != of_ranks[0]:
                raise RuntimeError(
                    f"Ranks 0 and {rank} no longer have the same weights, although they took the "
                    "same steps. All ranks need the same versions of torch and sktvae, and "
                    "processors or GPUs of the same kind."
                )

    def refuse(self, what: str) -> None:
        raise ValueError(
            f"{what} is not supported in {self.size} processes that fit one model together, which "
            f"an initialised torch.distributed makes of them. {_ALONE}"
        )

    @contextmanager
    def together(self) -> Iterator[None]:
        try:
            yield
            self.gather(None)
        except (RankFailed, ContactLost):
            raise
        except Exception as error:
            self._exchange(f"{type(error).__name__}: {error}")
            raise

    @contextmanager
    def _contact(self) -> Iterator[None]:
        """Say what it means if a collective operation fails."""
        try:
            yield
        except RuntimeError as error:
            raise ContactLost(
                f"Rank {self.rank} of {self.size} lost contact with the other ranks while they "
                "learned a model together. Another rank was killed, has failed, or did not answer "
                "within the timeout of the process group: its log says why. Start all ranks again. "
                "What torch says of it is in the exception above."
            ) from error


class RankFailed(RuntimeError):
    """Another rank has raised an error."""


class ContactLost(RuntimeError):
    """A collective operation failed."""


def current_group() -> Group:
    """Return the ranks of an initialised `torch.distributed` with more than one, or `ALONE`."""
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        return _Ranks()
    return ALONE


def _digest(module: nn.Module) -> str:
    """Return a short text that differs if any weight of a network does."""
    found = hashlib.sha256()
    for weight in module.state_dict().values():
        found.update(weight.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:16]


def _carrier(device: torch.device) -> torch.device:
    """The device from which the backend can send a tensor that is on `device`."""
    if dist.get_backend() == "nccl":
        return torch.device("cuda", torch.cuda.current_device())
    return device if device.type == "cuda" else torch.device("cpu")
