"""The Jacobian of a model by its products, for brackets at any number of samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from flatmin import JacobianProducts

from ._data import read_data
from ._gram import MEMORY_LIMIT, in_bytes, network_jacobian
from ._network import Inputs, Network, sample_count, take

CHUNK_SAMPLES = 256
"""Samples whose graph is in memory at a time."""


def products(
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
) -> JacobianProducts:
    """J·V, Jᵀ·U and the blocks J_iJ_iᵀ of a model, for ``flatmin.analyze(products=…)``.

    Nothing of the size of nk × nk or nk × p is formed. The model must not change while the result
    is used.

    Parameters
    ----------
    model, data, params, output, unpack, device, dtype
        As in :func:`flatmin.torch.jacobian`.
    chunk_size : int, optional
        Samples whose graph is in memory at a time. Default: 256.
    memory_limit : float
        GiB for the derivatives of some samples at a time.

    Returns
    -------
    flatmin.JacobianProducts

    Raises
    ------
    InputError
        If a sample has no outputs of its own.

    Examples
    --------
    >>> model = torch.nn.Linear(3, 2)
    >>> found = flatmin.torch.products(model, torch.randn(50, 3))
    >>> flatmin.threshold(products=found, relative_width=0.01, batch_size=8)
    """
    limit = in_bytes(memory_limit)
    network = Network(model, output=output, params=params, device=device, dtype=dtype)
    inputs = network.prepared(read_data(data, unpack=unpack).inputs)
    outputs = network.outputs(inputs, chunk_size=chunk_size)
    return network_products(
        network, inputs, outputs[0].numel(), chunk_size=chunk_size, memory_limit=limit
    )


def network_products(
    network: Network,
    inputs: Inputs,
    outputs: int,
    *,
    scale: np.ndarray | None = None,
    chunk_size: int | None = None,
    memory_limit: int,
) -> JacobianProducts:
    """The products of the Jacobian with its columns multiplied by `scale`."""
    n, k, p = sample_count(inputs), outputs, network.parameter_count
    chunk = chunk_size or CHUNK_SAMPLES

    def chunks() -> Iterator[tuple[slice, Inputs]]:
        for first in range(0, n, chunk):
            rows = slice(first, min(first + chunk, n))
            yield rows, take(inputs, rows)

    def jvp(vectors: np.ndarray) -> np.ndarray:
        scaled = vectors if scale is None else vectors * scale[:, None]
        directions = [_split(network, column) for column in scaled.T]
        images = np.empty((n * k, len(directions)))
        with network.calm():
            for rows, part in chunks():
                trained, result = _graph(network, part)
                # J v is the derivative of Jᵀ u in u, along v.
                weights = torch.zeros_like(result, requires_grad=True)
                pulled = _pull(result, trained, weights, create_graph=True)
                for j, direction in enumerate(directions):
                    image = _pull(pulled, [weights], direction, retain_graph=True)[0]
                    images[rows.start * k : rows.stop * k, j] = _numbers(image)
        return images

    def vjp(vectors: np.ndarray) -> np.ndarray:
        images = np.zeros((p, vectors.shape[1]))
        with network.calm():
            for rows, part in chunks():
                trained, result = _graph(network, part)
                for j in range(vectors.shape[1]):
                    weights = torch.as_tensor(vectors[rows.start * k : rows.stop * k, j].copy())
                    weights = weights.to(result).reshape(result.shape)
                    pulled = _pull(result, trained, weights, retain_graph=True)
                    images[:, j] += np.concatenate([_numbers(part) for part in pulled])
        return images if scale is None else images * scale[:, None]

    def sample_grams() -> np.ndarray:
        grams = np.empty((n, k, k))
        step = max(1, min(n, int(memory_limit // (4 * 8 * k * p))))
        for first in range(0, n, step):
            part = take(inputs, slice(first, first + step))
            rows = network_jacobian(
                network, part, chunk_size=chunk_size, memory_limit=max(memory_limit, 8 * k * p * 8)
            )
            rows = rows.astype(np.float64)
            if scale is not None:
                rows *= scale
            grams[first : first + step] = rows @ rows.transpose(0, 2, 1)
        return grams

    return JacobianProducts(n, k, p, jvp, vjp, sample_grams)


def _graph(network: Network, inputs: Inputs) -> tuple[list[Tensor], Tensor]:
    trained = {name: p.detach().requires_grad_() for name, p in network.trained.items()}
    return list(trained.values()), network.rows(trained, inputs)


def _pull(outputs: Any, inputs: list[Tensor], weights: Any, **options: bool) -> list[Tensor]:
    """The vector–Jacobian product, with zeros where nothing depends on an input."""
    several = isinstance(outputs, list)
    pairs = [
        (output, weight)
        for output, weight in zip(
            outputs if several else [outputs], weights if several else [weights], strict=True
        )
        if output.requires_grad
    ]
    if not pairs:
        return [torch.zeros_like(tensor) for tensor in inputs]
    found = torch.autograd.grad(
        [output for output, _ in pairs],
        inputs,
        [weight for _, weight in pairs],
        allow_unused=True,
        **options,
    )
    return [
        torch.zeros_like(tensor) if part is None else part
        for tensor, part in zip(inputs, found, strict=True)
    ]


def _split(network: Network, column: np.ndarray) -> list[Tensor]:
    """A vector of p numbers as tensors of the parameters' shapes."""
    found, first = [], 0
    for parameter in network.trained.values():
        piece = np.array(column[first : first + parameter.numel()])  # writable, as torch wants
        found.append(torch.as_tensor(piece).to(parameter).reshape(parameter.shape))
        first += parameter.numel()
    return found


def _numbers(tensor: Tensor) -> np.ndarray:
    return tensor.detach().double().cpu().numpy().reshape(-1)
