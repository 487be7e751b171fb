"""A device that pretends not to be the CPU, to find on a CPU what would fail on a GPU."""

from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

# The only other device of which tensors can exist everywhere.
OTHER = torch.device("meta")
_MOVES = ("aten::_to_copy", "aten::copy_")
_READS = ("aten::_local_scalar_dense", "aten::is_nonzero", "aten::nonzero", "aten::equal")


class Elsewhere(torch.Tensor):
    """A tensor that says it is on the other device, and holds its numbers on the CPU."""

    @staticmethod
    def __new__(cls, numbers):
        return torch.Tensor._make_wrapper_subclass(
            cls,
            numbers.size(),
            strides=numbers.stride(),
            storage_offset=numbers.storage_offset(),
            dtype=numbers.dtype,
            device=OTHER,
            requires_grad=False,
        )

    def __init__(self, numbers):
        self.numbers = numbers

    @property
    def data(self):
        return self.detach()

    @data.setter
    def data(self, other):
        self.numbers = other.numbers

    def tolist(self):
        return self.cpu().tolist()  # torch refuses it to classes of tensors

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise AssertionError(f"{func.name()} outside of the mode")


class OtherDevice(TorchDispatchMode):
    """Within the mode, tensors can be on the other device, and operations do not mix devices.

    Attributes
    ----------
    is_closed : bool
        Whether numbers must now neither come from the host nor go there.
    n_operations : int
        Those with a result on the other device.
    n_closed : int
        Those of them while the device was closed.
    """

    def __init__(self):
        super().__init__()
        self.is_closed, self.n_operations, self.n_closed = False, 0, 0

    @contextmanager
    def closed(self):
        self.is_closed = True
        try:
            yield
        finally:
            self.is_closed = False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs, name = dict(kwargs or {}), func._schema.name
        if torch.is_inference_mode_enabled():  # where compositions arrive as a whole
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        elsewhere = [x for x in tensors if isinstance(x, Elsewhere)]
        # Where devices may not differ, torch takes the number of a tensor without dimensions.
        here = [x for x in tensors if not isinstance(x, Elsewhere) and (x.ndim or self.is_closed)]
        if elsewhere and here and name not in _MOVES:
            raise AssertionError(f"{name} mixes devices")
        to = torch.device(kwargs["device"]) if kwargs.get("device") is not None else None
        if to is not None:
            kwargs["device"] = torch.device("cpu")
        is_elsewhere = bool(elsewhere) if to is None else to == OTHER
        if name == "aten::copy_":
            is_elsewhere = isinstance(args[0], Elsewhere)
        moves = bool(tensors) and (bool(elsewhere) != is_elsewhere or (elsewhere and here))
        if self.is_closed and (moves or name in _READS):
            raise AssertionError(f"{name} has the host wait for the device")
        result = func(*tree_map(_numbers, args), **tree_map(_numbers, kwargs))
        if not is_elsewhere:
            return args[0] if name == "aten::copy_" else result
        self.n_operations += 1
        self.n_closed += self.is_closed
        with torch.inference_mode(False):  # views of tensors that are not of the mode
            result = tree_map(lambda x: Elsewhere(x) if isinstance(x, torch.Tensor) else x, result)
        return return_and_correct_aliasing(func, args, kwargs, result)


def tensor(data, *, device=None, make=torch.tensor, **kwargs):
    """As `torch.tensor`, which goes past the mode on its way to another device."""
    made = make(data, **kwargs)
    return made if device is None else made.to(device)


class OtherGenerator(torch.Generator):
    """A generator that says it is on the other device; its numbers are those of a CPU."""

    def __new__(cls, device="cpu"):
        return super().__new__(cls, device="cpu")

    def __init__(self, device="cpu"):
        self._device = torch.device(device)

    @property
    def device(self):
        return self._device


def _numbers(x):
    return x.numbers if isinstance(x, Elsewhere) else x
