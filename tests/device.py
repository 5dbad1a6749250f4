"""A device in Python: its tensors compute on the CPU, say that they lie elsewhere, and refuse those that do not.

``use_device()`` registers it as "pydev", by PyTorch's PrivateUse1 backend, for the rest of the process. An operation
with a tensor of the CPU is an error then, as on a GPU.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

NAME = "pydev"
INDEXED = ("index", "index_put", "index_put_", "_unsafe_index")  # indices may lie on the CPU, as with CUDA


class Far(Tensor):
    """A tensor on the device. `near` has its values, on the CPU."""

    near: Tensor

    @staticmethod
    def __new__(cls: type[Far], near: Tensor) -> Far:
        layout = {"strides": near.stride(), "storage_offset": near.storage_offset()}
        far = Tensor._make_wrapper_subclass(cls, near.size(), dtype=near.dtype, device=torch.device(NAME, 0), **layout)
        far.near = near
        return far

    def __repr__(self) -> str:
        return f"Far({self.near})"

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: object, given: tuple = (), options: dict | None = None) -> Any:
        return compute(operation, given, options or {})


class Functions(TorchFunctionMode):
    """Functions that PyTorch can't dispatch to Python by itself."""

    def __torch_function__(self, function: Any, types: object, given: tuple = (), options: dict | None = None) -> Any:
        options = dict(options or {})
        if function in (torch.tensor, torch.as_tensor, torch.arange) and is_far(options.get("device")):
            device = options.pop("device")
            return function(*given, **options).to(device)
        if function in (Tensor.tolist, Tensor.numpy) and isinstance(given[0], Far):
            if function is Tensor.numpy:
                raise TypeError("can't convert a tensor on the device to numpy: take .cpu() first")
            return given[0].near.tolist()
        if function in (Tensor.__getitem__, Tensor.__setitem__) and isinstance(given[0], Far):
            keys = given[1] if isinstance(given[1], tuple) else (given[1],)
            keys = tuple(torch.tensor(key) if isinstance(key, list) else key for key in keys)
            given = (given[0], keys if len(keys) > 1 else keys[0], *given[2:])
        return function(*given, **options)


def is_far(device: object) -> bool:
    return device is not None and torch.device(device).type == NAME


def near(value: Any) -> Any:
    """The values of a tensor on the device. Scalars of the CPU are allowed, as with CUDA."""
    if isinstance(value, Far):
        return value.near
    if isinstance(value, Tensor) and value.dim():
        raise RuntimeError(f"a tensor of shape {tuple(value.shape)} lies on the {value.device}, and others on {NAME}")
    return value


def far(value: Any) -> Any:
    return Far(value) if isinstance(value, Tensor) and not isinstance(value, Far) else value


def compute(operation: Any, given: tuple, options: dict) -> Any:
    name = operation.overloadpacket.__name__
    if name == "_to_copy":
        target = options.get("device", given[0].device)
        source = given[0].near if isinstance(given[0], Far) else given[0]
        copy = operation(source, **{key: value for key, value in options.items() if key != "device"})
        return far(copy) if is_far(target) else copy
    if name == "copy_":
        operation(*(value.near if isinstance(value, Far) else value for value in given[:2]))
        return given[0]
    if name in INDEXED:
        indices = [index if index is None or isinstance(index, Far) else far(index) for index in given[1]]
        given = (given[0], indices, *given[2:])
    values, kept = tree_map(near, (given, options))
    if "device" in kept:
        kept["device"] = torch.device("cpu")
    found = operation(*values, **kept)
    if operation._schema.is_mutable and name.endswith("_"):
        return given[0]
    return tree_map(far, found)


class Module(_DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.float16, torch.bfloat16]


def use_device() -> torch.device:
    """Register the device for the rest of the process, and return it."""
    _setup_privateuseone_for_python_backend(NAME, Module())
    library = torch.library.Library("_", "IMPL")
    library.fallback(
        lambda operation, *given, **options: compute(operation, given, options), dispatch_key="PrivateUse1"
    )
    _KEPT.extend((library, Functions()))
    _KEPT[-1].__enter__()
    return torch.device(NAME, 0)


_KEPT: list[Any] = []  # what would leave with its last reference
