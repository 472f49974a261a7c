"""The Jacobian of a model, and its Gram matrix, within a limit of memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from flatmin import InputError

from ._blocks import Part, Ways, classify, fill, forward_and_back, groups
from ._data import read_data
from ._layers import DoesNotApply
from ._network import Inputs, Network, sample_count, take
from ._progress import Progress

MEMORY_LIMIT = 2.0
"""GiB."""
SLICE_COLUMNS = 2048
"""Columns that are widened to float64 at a time for the product."""


@torch.inference_mode(False)
def jacobian(
    model: nn.Module,
    data: Any,
    *,
    params: Sequence[str] | None = None,
    output: Callable[[Any], Tensor] | None = None,
    unpack: Callable[[Any], tuple[Any, Any]] | None = None,
    chunk_size: int | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    memory_limit: float = MEMORY_LIMIT,
) -> np.ndarray:
    """Derivatives ∂f_a(x_i)/∂θ of the outputs of all samples in the trained parameters.

    Parameters
    ----------
    model : torch.nn.Module
        In evaluation mode where it has dropout or batch normalisation. It is not changed.
    data : tensor, (x, y), Dataset or DataLoader
        The samples; targets are not used. Several inputs: ``((x1, x2), None)``, or a dict by name.
    params : sequence of str, optional
        Names of parameters. Default: all that require a gradient.
    output : callable, optional
        Picks the outputs from what the model returns: ``lambda result: result["logits"]``.
    unpack : callable, optional
        Turns a batch of the data into (inputs, targets).
    chunk_size : int, optional
        Samples at a time. Default: as many as the limit of memory allows.
    device, dtype : optional
        Where and in which precision (float32 or float64) to compute. Default: those of the model.
    memory_limit : float
        GiB. The result must fit into half of it.

    Returns
    -------
    numpy.ndarray
        n × k × p in the precision of the computation, for n samples, k outputs (all axes after the
        first, flattened) and p parameters in the order of ``model.named_parameters()``.

    Raises
    ------
    InputError
        If a sample has no outputs of its own, or the result is too large.

    Examples
    --------
    >>> model = torch.nn.Linear(3, 2)
    >>> flatmin.torch.jacobian(model, torch.randn(10, 3)).shape
    (10, 2, 8)
    """
    limit = in_bytes(memory_limit)
    network = Network(model, output=output, params=params, device=device, dtype=dtype)
    inputs = network.prepared(read_data(data, unpack=unpack).inputs)
    network.outputs(inputs, chunk_size=chunk_size)
    return network_jacobian(network, inputs, chunk_size=chunk_size, memory_limit=limit)


@torch.inference_mode(False)
def gram(
    model: nn.Module,
    data: Any,
    *,
    params: Sequence[str] | None = None,
    output: Callable[[Any], Tensor] | None = None,
    unpack: Callable[[Any], tuple[Any, Any]] | None = None,
    chunk_size: int | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    memory_limit: float = MEMORY_LIMIT,
) -> np.ndarray:
    """The Gram matrix JJᵀ of the outputs of all samples, not divided by n.

    Rows of J are computed in the precision of the model, their products are summed in float64.
    Memory is bounded by `memory_limit` for any number of parameters.

    Parameters
    ----------
    model, data, params, output, unpack, chunk_size, device, dtype
        As in :func:`flatmin.torch.jacobian`.
    memory_limit : float
        GiB. Two nk × nk matrices must fit.

    Returns
    -------
    numpy.ndarray
        nk × nk, float64; output a of sample i is row i·k + a.

    Raises
    ------
    InputError
        If a sample has no outputs of its own, or the matrix is too large.

    Examples
    --------
    >>> model = torch.nn.Linear(3, 2)
    >>> flatmin.torch.gram(model, torch.randn(10, 3)).shape
    (20, 20)
    """
    limit = in_bytes(memory_limit)
    network = Network(model, output=output, params=params, device=device, dtype=dtype)
    inputs = network.prepared(read_data(data, unpack=unpack).inputs)
    outputs = network.outputs(inputs, chunk_size=chunk_size)
    check_size(len(outputs), outputs[0].numel(), limit)
    return network_gram(network, inputs, chunk_size=chunk_size, memory_limit=limit)


def in_bytes(memory_limit: float) -> int:
    """A limit in GiB as bytes.

    Raises
    ------
    InputError
        If it is no positive number.
    """
    if not isinstance(memory_limit, (int, float)) or not 0 < memory_limit < float("inf"):
        raise InputError(f"memory_limit is {memory_limit}, expected GiB, a positive number")
    return int(memory_limit * 2**30)


def check_size(n: int, k: int, memory_limit: int) -> None:
    """Refuses a Gram matrix that does not fit.

    Raises
    ------
    InputError
        With the numbers and the way out.
    """
    need = 2 * 8 * (n * k) ** 2
    if need <= memory_limit:
        return
    rows = int((memory_limit / 16) ** 0.5)
    raise InputError(
        f"{n} samples × {k} outputs make a Gram matrix of {n * k} × {n * k} numbers; with a "
        f"product of the same size that is {_gigabytes(need)}, beyond memory_limit = "
        f"{_gigabytes(memory_limit)}. Give a larger limit, or at most {rows // max(1, k)} samples "
        "(torch.utils.data.Subset): but the threshold of a subset is biased, below that of all "
        "samples on average"
    )


def _gigabytes(size: float) -> str:
    return f"{size / 2**30:.3g} GiB"


def network_jacobian(
    network: Network,
    inputs: Inputs,
    *,
    chunk_size: int | None = None,
    memory_limit: int,
) -> np.ndarray:
    """n × k × p, see :func:`jacobian`."""
    ways = classify(network, inputs)
    n, k, p = sample_count(inputs), ways.output_count, network.parameter_count
    need = n * k * p * torch.empty(0, dtype=network.dtype).element_size()
    if need > memory_limit // 2:
        raise InputError(
            f"the Jacobian has {n} × {k} × {p} numbers, {_gigabytes(need)}, more than half of "
            f"memory_limit = {_gigabytes(memory_limit)}; flatmin.torch.gram makes JJᵀ within it"
        )
    result = torch.empty(n, k, p, dtype=network.dtype, device="cpu")
    offsets, first = {}, 0
    for name, parameter in network.trained.items():
        offsets[name] = first
        first += parameter.numel()
    work = (memory_limit - need) // 4
    item = need // max(1, n * k * p)
    made = groups(network, ways, max(1, work // (n * k * item)), list(network.trained))
    progress = Progress("groups of columns of the Jacobian", len(made))
    for parts in made:
        if network.device.type == "cpu":
            out = [result[..., offsets[p.name] + p.first : offsets[p.name] + p.end] for p in parts]
            fill(network, ways, inputs, parts, out, work_bytes=work, chunk_size=chunk_size)
        else:
            block, views = _block(network, ways, n, parts)
            fill(network, ways, inputs, parts, views, work_bytes=work, chunk_size=chunk_size)
            for part, view in zip(parts, views, strict=True):
                start = offsets[part.name]
                result[..., start + part.first : start + part.end] = view.cpu()
            del block
        progress.step()
    progress.close()
    _check_finite(result, network)
    return result.numpy()


def _block(network: Network, ways: Ways, n: int, parts: list[Part]) -> tuple[Tensor, list[Tensor]]:
    """An empty n × k × columns array, and the columns of each part in it."""
    sizes = [part.columns for part in parts]
    shape = (n, ways.output_count, sum(sizes))
    block = torch.empty(shape, dtype=network.dtype, device=network.device)
    return block, list(block.split(sizes, dim=2))


def _check_finite(rows: Tensor, network: Network) -> None:
    total = rows.sum()
    if bool(torch.isfinite(total)) or bool(torch.isfinite(rows).all()):
        return
    i, a, column = (int(v) for v in (~torch.isfinite(rows)).nonzero()[0])
    raise InputError(
        f"the derivative of output {a} of sample {i} in parameter {column} is not finite; a square "
        "root or norm at zero has none, and neither has a diverged network"
    )


def network_gram(
    network: Network,
    inputs: Inputs,
    *,
    scale: dict[str, Tensor] | None = None,
    single: bool = False,
    quiet: bool = False,
    chunk_size: int | None = None,
    memory_limit: int,
) -> np.ndarray:
    """nk × nk matrix J D⁻¹ Jᵀ, see :func:`gram`.

    ``scale`` has a factor D^(−1/2) for each parameter, in its shape; None for ones. With `single`,
    products of float32 rows are formed in float32, a few columns at a time, and only their sum is
    in float64: about three times as fast, with a relative error of 1e-7 of the largest eigenvalue.
    `quiet` is for callers that may run below a progress bar of their own.
    """
    ways = classify(network, inputs)
    n, k = sample_count(inputs), ways.output_count
    rows = n * k
    check_size(n, k, memory_limit)
    total = np.zeros((rows, rows))
    product = np.empty_like(total)
    names = list(network.trained)
    left = max(memory_limit - 16 * rows**2, memory_limit // 4)
    item = torch.empty(0, dtype=network.dtype).element_size()
    once = set(ways.once) if scale is None else set()
    sizes = {  # of the inputs and gradients of a linear layer, in float64
        name: 8 * (n * k * network.trained[name].shape[0] + n * network.trained[name][0].numel())
        for name in names
        if name in once
    }
    chunk = chunk_size or max(1, min(1024, left // 4 // max(1, ways.activation_bytes * 3)))
    try:
        for layers in _linear_layers(ways, once, sizes, left // 2):
            _add_linear(network, ways, inputs, layers, total, product, chunk)
    except (DoesNotApply, ValueError):  # layers that are called otherwise for later samples
        once.clear()
        total[:] = 0.0
    names = [name for name in names if name not in once]
    columns = max(1, left // 2 // (rows * item))
    made = groups(network, ways, columns, names)
    progress = Progress("groups of columns of the Gram matrix", len(made), quiet=quiet)
    for parts in made:
        block, views = _block(network, ways, n, parts)
        fill(network, ways, inputs, parts, views, work_bytes=left // 4, chunk_size=chunk_size)
        if scale is not None:
            for part, view in zip(parts, views, strict=True):
                view *= scale[part.name].reshape(-1)[part.first : part.end].to(view)
        _add_products(block.reshape(rows, -1), total, product, single)
        del block, views
        progress.step()
    progress.close()
    if not np.isfinite(np.trace(total)):
        raise InputError("a derivative of the outputs is not finite; did the training diverge?")
    return total


def _add_products(block: Tensor, total: np.ndarray, product: np.ndarray, single: bool) -> None:
    """total += block·blockᵀ; numpy computes one triangle and copies it."""
    narrow = single and block.dtype == torch.float32
    out = np.empty_like(product, dtype=np.float32) if narrow else product
    for start in range(0, block.shape[1], SLICE_COLUMNS):
        part = block[:, start : start + SLICE_COLUMNS].cpu()
        rows = (part if narrow else part.double()).contiguous().numpy()
        np.matmul(rows, rows.T, out=out)
        total += out


def _linear_layers(ways: Ways, once: set[str], bytes_of: dict[str, int], limit: int) -> list:
    """Layers in lists that are done in one pass, so that their gradients fit into the bytes."""
    layers: dict[nn.Module, list[str]] = {}
    for name in bytes_of:
        if name in once:
            layers.setdefault(ways.owners[name][0][0], []).append(name)
    passes: list[dict[nn.Module, list[str]]] = []
    size = limit + 1
    for module, names in layers.items():
        need = max(bytes_of[name] for name in names)
        if size + need > limit:
            passes.append({})
            size = 0
        passes[-1][module] = names
        size += need
    return passes


def _add_linear(
    network: Network,
    ways: Ways,
    inputs: Inputs,
    layers: dict[nn.Module, list[str]],
    total: np.ndarray,
    product: np.ndarray,
    chunk: int,
) -> None:
    """Adds linear layers that see each sample once: products of inputs times those of gradients.

    With input x_i and derivatives g_ia in the output of a layer, the rows of its weight are
    g_ia x_iᵀ, so that their products are (x_i·x_j)(g_ia·g_jb), without the rows themselves.
    """
    names = [name for held in layers.values() for name in held]
    n, k = sample_count(inputs), ways.output_count
    xs: dict[nn.Module, list[Tensor]] = {module: [] for module in layers}
    gs: dict[nn.Module, list[Tensor]] = {module: [] for module in layers}
    with network.calm():
        for start in range(0, n, chunk):
            some = take(inputs, slice(start, start + chunk))
            found = forward_and_back(network, ways, some, names)
            for module in layers:
                (call,), (grads,) = found[module]
                xs[module].append(call.input.reshape(sample_count(some), -1).cpu().double())
                gs[module].append(grads.reshape(sample_count(some), k, -1).cpu().double())
    for module, held in layers.items():
        x = torch.cat(xs[module]).numpy()
        g = torch.cat(gs[module]).reshape(n * k, -1).contiguous().numpy()
        roles = {ways.owners[name][0][1] for name in held}
        np.matmul(g, g.T, out=product)
        factor = x @ x.T if "weight" in roles else np.zeros((n, n))
        if "bias" in roles:
            factor += 1.0
        view = product.reshape(n, k, n, k)
        view *= factor[:, None, :, None]
        total += product
