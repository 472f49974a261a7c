"""The one-liner for JAX."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import flatmin
from flatmin import InputError
from flatmin._ask import DEFAULTS, analyze_made
from flatmin._granted import granted
from flatmin._keywords import unknown_keyword

from ._loss import read_loss
from ._network import Network
from ._optimizer import read_optimizer
from ._products import network_products

if TYPE_CHECKING:
    from flatmin import Analysis

#: GiB.
MEMORY_LIMIT = 2.0


def jacobian(
    apply: Callable[[Any, Any], Any],
    params: Any,
    inputs: Any,
    *,
    chunk_size: int | None = None,
    memory_limit: float = MEMORY_LIMIT,
) -> np.ndarray:
    """Derivatives ∂f_a(x_i)/∂θ of the outputs of all samples in the parameters.

    Parameters
    ----------
    apply
        A pure function (params, x) of a batch, whose outputs have a row for each sample.
    params
        A pytree. Its arrays of floating-point numbers are the parameters.
    inputs
        An array or a pytree of arrays with a row for each sample.
    chunk_size
        Samples at a time. Default: as many as 256 MiB of derivatives.
    memory_limit
        GiB that the result may take.

    Returns
    -------
    numpy.ndarray
        n × k × p for k outputs (all axes after the first, flattened), in the order of
        ``jax.tree_util.tree_leaves(params)``.

    Raises
    ------
    InputError
        If a sample has no outputs of its own, or the result is too large.
    """
    network = Network(apply, params, inputs)
    _check_size(network, memory_limit, network.samples * network.outputs * network.parameters)
    return _jacobian(network, chunk_size)


def gram(
    apply: Callable[[Any, Any], Any],
    params: Any,
    inputs: Any,
    *,
    chunk_size: int | None = None,
    memory_limit: float = MEMORY_LIMIT,
) -> np.ndarray:
    """The Gram matrix JJᵀ of the outputs of all samples, not divided by n.

    Derivatives have the precision of the parameters; their products are summed in float64.

    Returns
    -------
    numpy.ndarray
        nk × nk, float64; output a of sample i is row i·k + a.

    Raises
    ------
    InputError
        As :func:`jacobian`.
    """
    network = Network(apply, params, inputs)
    return _gram(network, chunk_size, memory_limit, None)


def analyze(
    apply: Callable[[Any, Any], Any],
    params: Any,
    data: tuple[Any, Any],
    loss: str | Callable[[Any, Any], Any] = "mse",
    *,
    optimizer: tuple[Any, Any] | None = None,
    batch_size: int | Sequence[int] | None = None,
    learning_rate: float | Sequence[float] | None = None,
    chunk_size: int | None = None,
    memory_limit: float = MEMORY_LIMIT,
    **keywords: Any,
) -> Analysis:
    """At which learning rates the optimizer can stay at the minimum where the parameters are.

    Parameters
    ----------
    apply
        A pure function (params, x) of a batch, such as ``model.apply`` of Flax, in evaluation mode.
    params
        A pytree of parameters at the minimum.
    data
        (x, y), all samples of training, each an array or a pytree of arrays.
    loss
        A function (outputs, targets) of a batch: the mean over its samples, or a number for each,
        such as ``optax.softmax_cross_entropy_with_integer_labels``. ``"mse"`` stands for
        ``jnp.mean((outputs - targets) ** 2)``.
    optimizer
        ``(transformation, state)`` of optax: SGD, Adam, AdamW or RMSprop. Default: plain SGD.
    batch_size, learning_rate
        Those of training. Default: 1, and the learning rate of the optimizer.
    chunk_size, memory_limit
        As in :func:`jacobian`.
    **keywords
        Further keywords of :func:`flatmin.analyze`, such as ``sampling="reshuffling"``. They take
        the place of what is read.

    Returns
    -------
    flatmin.Analysis

    Raises
    ------
    InputError
        If the input does not determine an answer. The message says what to do.

    Examples
    --------
    >>> tx = optax.sgd(0.1, momentum=0.9)                          # doctest: +SKIP
    >>> flatmin.jax.analyze(model.apply, params, (x, y),           # doctest: +SKIP
    ...     optax.softmax_cross_entropy_with_integer_labels,
    ...     optimizer=(tx, state), batch_size=32, sampling="reshuffling")
    """
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        raise InputError("data is no pair (x, y) of inputs and targets (predictions do not do)")
    known = [name for name in DEFAULTS if name not in {"samples", "outputs", "axes", "blocks"}]
    for name in keywords:
        if name not in known:
            raise unknown_keyword("flatmin.jax.analyze", name, [*known, "optimizer", "chunk_size"])
    notes = granted(optimizer, batch_size, keywords)
    sizes = 1 if batch_size is None else batch_size
    network = Network(apply, params, data[0])
    words: dict[str, Any] = read_optimizer(optimizer, params) if optimizer is not None else {}
    words |= read_loss(loss, network.at_minimum, data[1]) | keywords | {"batch_size": sizes}
    if learning_rate is not None:
        words["learning_rate"] = learning_rate
    diagonal = words.pop("preconditioner", None)
    answer = _answer(network, words, diagonal, chunk_size, memory_limit)
    answer.notes = notes
    return answer


def _answer(
    network: Network,
    words: dict[str, Any],
    diagonal: np.ndarray | None,
    chunk_size: int | None,
    memory_limit: float,
) -> Analysis:
    """Asks flatmin.analyze: with products for a bracket, else with the Jacobian where it is small,
    and with its Gram matrix where it is not.
    """
    n, k, p = network.samples, network.outputs, network.parameters
    made = {"parameters": p, "preconditioned": diagonal is not None}
    if "rank" in words or "relative_width" in words:
        scale = None if diagonal is None else diagonal**-0.5
        found = network_products(network, chunk_size, scale)
        return analyze_made(words, products=found, **made)
    if 8 * n * k * p <= memory_limit * 2**30 / 4:
        rows = _jacobian(network, chunk_size)
        if diagonal is not None:
            words["preconditioner"] = diagonal
        return flatmin.analyze(rows[:, 0] if k == 1 else rows, samples=n, outputs=k, **words)
    products = _gram(network, chunk_size, memory_limit, diagonal)
    return analyze_made(words | {"samples": n, "outputs": k}, gram=products, **made)


def _jacobian(network: Network, chunk_size: int | None) -> np.ndarray:
    everything = list(range(len(network.sizes)))
    rows = np.concatenate(list(network.rows(everything, chunk_size)))
    return rows.reshape(network.samples, network.outputs, network.parameters)


def _gram(
    network: Network, chunk_size: int | None, memory_limit: float, diagonal: np.ndarray | None
) -> np.ndarray:
    rows = network.samples * network.outputs
    _check_size(network, memory_limit, 3 * rows * rows)
    # The columns of a group, in the precision of the network and in float64.
    left = memory_limit * 2**30 - 2 * 8 * rows * rows
    columns = max(1, int(left / (16 * rows)))
    total = np.zeros((rows, rows))
    ends = np.cumsum(network.sizes)
    for group in network.groups(columns):
        block = np.concatenate(list(network.rows(group, chunk_size)))
        block = block.astype(np.float64)
        if diagonal is not None:
            first, end = ends[group[0]] - network.sizes[group[0]], ends[group[-1]]
            block /= np.sqrt(diagonal[first:end])
        total += block @ block.T
    return total


def _check_size(network: Network, memory_limit: float, numbers: int) -> None:
    needed = 8 * numbers / 2**30
    if needed > memory_limit:
        raise InputError(
            f"{network.samples} samples with {network.outputs} outputs and {network.parameters} "
            f"parameters need {needed:.3g} GiB, more than memory_limit={memory_limit:g}; give "
            "relative_width=0.05 for a bracket from leading modes, or more memory where there is "
            "as much (a part of the samples has another threshold)"
        )
