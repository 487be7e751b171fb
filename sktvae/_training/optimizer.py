"""All parameters of a network as one vector, and their running average."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.adam import adam

# The weight of the last steps in the running average: at any step, it is about the mean of the
# last fifth of all steps. Polynomial-decay averaging, Shamir & Zhang (ICML 2013), equation 4 with
# eta = 4.
_ETA = 4
# Steps before gradients are clipped, and steps over which their mean length is taken. In it, a
# length counts as at most so many times the mean: it must follow lengths that stay, and no others.
_UNCLIPPED, _RECENT, _MOST_COUNTED = 20, 100, 10


class FlatWeights:
    """The parameters of a module, and their gradients, as views of one vector.

    A step of the optimiser, or a snapshot of the weights, is then one operation and not one per
    layer.

    Parameters
    ----------
    module : nn.Module
        Its parameters become views of `vector`.
    decay : float
        The share of their size that weights lose per epoch; biases, scales and standard deviations
        lose nothing.
    average : bool
        Whether `kept` is a running average of the weights.
    frozen : dict of str to bool tensor, default=None
        By the names of parameters, the weights that stay as they are.
    undecayed : collection of str, default=()
        The names of further parameters that lose nothing.

    Attributes
    ----------
    vector : tensor of shape (n_parameters,)
        With its gradient in `vector.grad`.
    """

    def __init__(
        self,
        module: nn.Module,
        decay: float = 0.0,
        average: bool = False,
        frozen: dict[str, Tensor] | None = None,
        undecayed: Collection[str] = (),
    ):
        parameters = dict(module.named_parameters())
        sizes = [p.numel() for p in parameters.values()]
        flat = torch.cat([p.detach().reshape(-1) for p in parameters.values()])
        self.vector = flat.requires_grad_()
        self.vector.grad = torch.zeros_like(flat)
        views = zip(
            parameters.values(),
            self.vector.detach().split(sizes),
            self.vector.grad.split(sizes),
            strict=True,
        )
        for p, weight, gradient in views:
            p.data, p.grad = weight.view_as(p), gradient.view_as(p)
        decays = [
            torch.full_like(
                p.detach().reshape(-1),
                p.ndim > 1 and not name.endswith("bias") and name not in undecayed,
            )
            for name, p in parameters.items()
        ]
        self._decay = decay * torch.cat(decays) if decay else None
        self._trained = None
        if frozen:
            trained = [
                ~frozen[name].reshape(-1)
                if name in frozen
                else torch.ones(p.numel(), dtype=torch.bool)
                for name, p in parameters.items()
            ]
            self._trained = torch.cat(trained).to(flat)
        self._average = self.vector.detach().clone() if average else None
        self._n_steps: int | Tensor = 0

    @property
    def kept(self) -> Tensor:
        """The weights that are validated and kept: the running average, or the live weights."""
        return self.vector.detach() if self._average is None else self._average

    @property
    def gradient(self) -> Tensor:
        """The gradient, (n_parameters,)."""
        assert self.vector.grad is not None
        return self.vector.grad

    def hold_frozen_(self) -> None:
        """Remove the gradient of the weights that stay as they are, before a step."""
        if self._trained is not None:
            self.gradient.mul_(self._trained)

    def decay_(self, share: float) -> None:
        """Apply this share of an epoch's decay."""
        if self._decay is not None:
            self.vector.data.addcmul_(self.vector.data, self._decay, value=-share)

    def count_on_device_(self) -> None:
        """Count the averaged steps where the weights are, for steps that are recorded.

        A Python number would be the same in all repetitions of a recorded step.
        """
        self._n_steps = torch.tensor(int(self._n_steps), device=self.vector.device)

    def average_(self) -> None:
        """Include the weights, as they are after a step, in the running average."""
        self._n_steps += 1
        if self._average is not None:
            self._average.lerp_(self.vector.data, (_ETA + 1) / (self._n_steps + _ETA))

    def state(self) -> dict[str, Any]:
        """The live weights, their average and its number of steps, in plain arrays."""
        average = {} if self._average is None else {"average": _array(self._average)}
        return {"live": _array(self.vector), "n_averaged": int(self._n_steps)} | average

    def load_(self, state: dict[str, Any]) -> None:
        """Go on from a `state`, which may be of the first weights only, or of more than there are.

        An average that it lacks begins at the live weights.
        """
        _fill_start(self.vector.data, state["live"])
        if isinstance(self._n_steps, Tensor):
            self._n_steps.fill_(state["n_averaged"])
        else:
            self._n_steps = state["n_averaged"]
        if self._average is not None:
            _fill_start(self._average, state.get("average", state["live"]))

    def zero_gradient_(self) -> None:
        """Set the gradient to zero, before a step adds to it."""
        self.gradient.zero_()

    def snapshot(self) -> Tensor:
        """A copy of the weights to keep."""
        return self.kept.clone()

    def restore_(self, weights: Tensor) -> None:
        """Make these the live weights."""
        self.vector.data.copy_(weights)

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Within the context, the weights to keep are the live weights."""
        if self._average is None:
            yield
            return
        live = self.vector.detach().clone()
        self.restore_(self._average)
        try:
            yield
        finally:
            self.restore_(live)


class Adam:
    """The Adam optimiser on one vector of weights.

    It calls the function behind `torch.optim.Adam`. The class itself imports torch's compiler,
    which takes a second and 30 MB and is not used here.

    Parameters
    ----------
    vector : tensor of shape (n_parameters,)
        With its gradient in `vector.grad`.
    learning_rate : float
    l2scale : float
        L2 penalty, added to the gradient.
    clip : float
        A gradient is shortened to at most so many times the running mean length of gradients, over
        about a hundred steps; 0 for any length. It is clipped before the penalty is added.
    """

    def __init__(
        self, vector: Tensor, learning_rate: float, l2scale: float = 0.0, clip: float = 0.0
    ):
        self.vector, self._clip = vector, clip
        self._length = torch.zeros((), device=vector.device)
        self._means = [torch.zeros_like(vector.detach())]
        self._squares = [torch.zeros_like(vector.detach())]
        self._n_steps = [torch.zeros((), device=vector.device)]
        self._learning_rate, self._l2scale = learning_rate, l2scale

    @torch.no_grad()
    def step(self) -> None:
        assert self.vector.grad is not None
        if self._clip:
            self._clip_(self.vector.grad)
        adam(
            [self.vector],
            [self.vector.grad],
            self._means,
            self._squares,
            [],
            self._n_steps,
            fused=True,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            maximize=False,
            lr=self._learning_rate,
            weight_decay=self._l2scale,
            eps=1e-8,
        )

    def _clip_(self, gradient: Tensor) -> None:
        """Shorten a gradient that is longer than those before it.

        Nothing is read from the device, so that steps can be recorded.
        """
        n_steps, length, mean = self._n_steps[0], torch.linalg.vector_norm(gradient), self._length
        is_any = (n_steps < _UNCLIPPED) | (mean == 0)
        gradient.mul_(torch.where(is_any, 1, self._clip * mean / length).clamp(max=1))
        # Of the first steps it is the mean, and from then on a running mean.
        counted = torch.minimum(length, torch.where(is_any, torch.inf, _MOST_COUNTED * mean))
        counted = torch.where(torch.isfinite(counted), counted, mean)
        mean.lerp_(counted, 1 / (n_steps + 1).clamp(max=_RECENT))

    def state(self) -> dict[str, Any]:
        """The running means of gradients, of their squares and lengths, in plain numbers."""
        means, squares = _array(self._means[0]), _array(self._squares[0])
        numbers = {"n_steps": int(self._n_steps[0]), "length": float(self._length)}
        return {"means": means, "squares": squares} | numbers

    def load_(self, state: dict[str, Any]) -> None:
        """Go on from a `state`, which may be of the first weights only, or of more."""
        _fill_start(self._means[0], state["means"])
        _fill_start(self._squares[0], state["squares"])
        self._n_steps[0].fill_(state["n_steps"])
        self._length.fill_(state.get("length", 0.0))


def _array(numbers: Tensor) -> np.ndarray:
    return numbers.detach().cpu().numpy().copy()


def _fill_start(tensor: Tensor, numbers: np.ndarray) -> None:
    n = min(len(tensor), len(numbers))
    tensor[:n].copy_(torch.from_numpy(numbers[:n]))
