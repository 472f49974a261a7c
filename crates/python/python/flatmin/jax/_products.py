"""The Jacobian of a function by its products, for brackets at any number of samples."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flatmin import JacobianProducts

from ._network import Network, double_precision

#: Samples that are differentiated at a time.
CHUNK_SAMPLES = 256


def products(
    apply: Callable[[Any, Any], Any],
    params: Any,
    inputs: Any,
    *,
    chunk_size: int | None = None,
) -> JacobianProducts:
    """J·V, Jᵀ·U and the blocks J_iJ_iᵀ of a function, for ``flatmin.analyze(products=…)``.

    Nothing of the size of nk × nk or nk × p is formed.

    Parameters
    ----------
    apply, params, inputs
        As in :func:`flatmin.jax.jacobian`.
    chunk_size
        Samples at a time. Default: 256.

    Returns
    -------
    flatmin.JacobianProducts

    Raises
    ------
    InputError
        If a sample has no outputs of its own.
    """
    return network_products(Network(apply, params, inputs), chunk_size)


def network_products(
    network: Network, chunk_size: int | None, scale: np.ndarray | None = None
) -> JacobianProducts:
    """The products of the Jacobian with its columns multiplied by `scale`."""
    n, k, p = network.samples, network.outputs, network.parameters
    trained, chunk = network.trained, chunk_size or CHUNK_SAMPLES

    def rows(trained: Any, x: Any) -> jax.Array:
        return jax.vmap(lambda x: network.of_sample(trained, x))(x)

    @jax.jit
    def push(directions: Any, x: Any) -> jax.Array:
        def along(direction: Any) -> jax.Array:
            return jax.jvp(lambda t: rows(t, x), (trained,), (direction,))[1]

        return jax.vmap(along)(directions)

    @jax.jit
    def pull(weights: jax.Array, x: Any) -> Any:
        _, back = jax.vjp(lambda t: rows(t, x), trained)
        return jax.vmap(lambda u: back(u)[0])(weights)

    def chunks() -> Any:
        for first in range(0, n, chunk):
            end = min(first + chunk, n)
            cut = slice(first, end)
            yield first, end, jax.tree_util.tree_map(lambda x, cut=cut: x[cut], network.inputs)

    def jvp(vectors: np.ndarray) -> np.ndarray:
        scaled = vectors if scale is None else vectors * scale[:, None]
        directions, first = [], 0
        for leaf in trained:
            piece = scaled[first : first + leaf.size].T.reshape(-1, *leaf.shape)
            directions.append(jnp.asarray(piece, leaf.dtype))
            first += leaf.size
        images = np.empty((n * k, vectors.shape[1]))
        for start, end, x in chunks():
            image = np.asarray(push(directions, x), dtype=np.float64)
            images[start * k : end * k] = image.reshape(image.shape[0], -1).T
        return images

    def vjp(vectors: np.ndarray) -> np.ndarray:
        count = vectors.shape[1]
        images = np.zeros((p, count))
        dtype = network.at_minimum.dtype
        for start, end, x in chunks():
            weights = vectors[start * k : end * k].T.reshape(count, end - start, k)
            parts = pull(jnp.asarray(weights, dtype), x)
            images += np.concatenate(
                [np.asarray(part, dtype=np.float64).reshape(count, -1) for part in parts], axis=1
            ).T
        return images if scale is None else images * scale[:, None]

    def sample_grams() -> np.ndarray:
        found = []
        for block in network.rows(list(range(len(trained))), chunk_size):
            block = block.astype(np.float64).reshape(-1, k, p)
            block = block if scale is None else block * scale
            found.append(block @ block.transpose(0, 2, 1))
        return np.concatenate(found)

    # Products run on another thread, which does not see the precision that this one has.
    wide = network.at_minimum.dtype == jnp.float64

    def precise(function: Callable) -> Callable:
        def call(*arguments: Any) -> np.ndarray:
            with double_precision() if wide else nullcontext():
                return function(*arguments)

        return call

    return JacobianProducts(n, k, p, precise(jvp), precise(vjp), precise(sample_grams))
