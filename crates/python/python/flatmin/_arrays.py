"""Arrays of any library as bytes with a type and a shape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._native import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike

    from ._native import Buffer


def buffer(name: str, array: ArrayLike) -> Buffer:
    """Describes an array to the extension module, without a copy where it is contiguous.

    Numbers keep their type: the extension module widens each of them exactly, or refuses it, as it
    does with those of a file.

    Parameters
    ----------
    name
        The word by which messages call the array.
    array
        Anything with ``__dlpack__``, numpy's protocol, or nested lists of numbers.

    Raises
    ------
    InputError
        If it is no array of numbers.
    """
    import numpy as np

    values, descr = _numpy(name, array)
    if values.flags.c_contiguous or not values.flags.f_contiguous:
        is_fortran, flat = False, np.ascontiguousarray(values).reshape(-1)
    else:
        is_fortran, flat = True, values.T.reshape(-1)
    if values.dtype.hasobject:
        # The bytes of objects say nothing; the type is refused by its name.
        return name, descr, values.shape, False, memoryview(b""), values.size * 8
    view = memoryview(flat.view(np.uint8))
    return name, descr, values.shape, is_fortran, view, view.nbytes


def _numpy(name: str, array: Any) -> tuple[np.ndarray, str]:
    """The array in numpy, and the type of its numbers as numpy writes it."""
    import numpy as np

    if isinstance(array, (str, bytes)) or hasattr(array, "__fspath__"):
        raise InputError(f"{name}: is the name of a file; pass its array, numpy.load({array!r})")
    if hasattr(array, "detach") and hasattr(array, "cpu"):
        return _of_torch(name, array)
    if isinstance(array, np.ma.MaskedArray) and np.ma.is_masked(array):
        raise InputError(f"{name}: has masked entries; fill them or leave the samples out")
    try:
        if hasattr(array, "__dlpack__") and not hasattr(array, "__array__"):
            values = np.from_dlpack(array)
        else:
            values = np.asarray(array)
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        raise InputError(f"{name}: is no array of numbers: {error}") from error
    return values, values.dtype.str


def _of_torch(name: str, tensor: Any) -> tuple[np.ndarray, str]:
    """The same for a tensor of PyTorch, which may need a gradient or lie on another device."""
    tensor = tensor.detach()
    if tensor.layout is not _torch().strided:
        tensor = tensor.to_dense()
    tensor = tensor.cpu().resolve_conj().resolve_neg()
    if tensor.dtype is _torch().bfloat16:
        # numpy has no such type, so the bits go through another one.
        return tensor.contiguous().view(_torch().int16).numpy(), "bfloat16"
    try:
        values = tensor.numpy()
    except (TypeError, RuntimeError) as error:
        raise InputError(f"{name}: is no array of numbers: {error}") from error
    return values, values.dtype.str


def _torch() -> Any:
    import torch

    return torch
