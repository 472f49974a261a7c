"""A function of parameters and inputs, differentiated sample by sample."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flatmin import InputError

#: Bytes of the Jacobian of a chunk of samples, where no chunk size is given.
CHUNK_BYTES = 256 << 20

#: Relative difference of a sample's outputs, alone and in its batch, up to which they are equal.
SAME = {jnp.dtype("float32"): 1e-3, jnp.dtype("float64"): 1e-6}


def double_precision() -> Any:
    """A context in which arrays may have 64 bits, under its name of the version of JAX."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    from jax.experimental import enable_x64

    return enable_x64(True)


class Network:
    """The outputs f_a(x_i; θ) of all samples, and their derivatives.

    Attributes
    ----------
    samples, outputs, parameters : int
        n, k and p.
    trained, names : list
        The trained arrays, in the order of the pytree of parameters, and their paths in it.
    """

    def __init__(self, apply: Callable, params: Any, inputs: Any) -> None:
        if isinstance(apply, type):
            raise InputError(
                f"apply is the class {apply.__name__}, expected a function (params, x) → outputs, "
                "such as the apply of its object"
            )
        if not callable(apply):
            raise InputError(
                f"apply is a {type(apply).__name__}, expected a function (params, x) → outputs"
            )
        leaves, tree = jax.tree_util.tree_flatten_with_path(params)
        self.names, self.trained, self._places = [], [], []
        self._leaves = [leaf for _, leaf in leaves]
        for place, (path, leaf) in enumerate(leaves):
            leaf = jnp.asarray(leaf)
            if not jnp.issubdtype(leaf.dtype, jnp.floating):
                continue
            # Derivatives in half precision would have three digits.
            leaf = leaf.astype(jnp.float32) if leaf.dtype.itemsize < 4 else leaf
            self.names.append(jax.tree_util.keystr(path))
            self.trained.append(leaf)
            self._places.append(place)
        if not self.trained:
            raise InputError("params hold no array of floating-point numbers")
        self._tree = tree
        self._apply = apply
        self.inputs = jax.tree_util.tree_map(jnp.asarray, inputs)
        counts = {len(x) if x.ndim else 0 for x in jax.tree_util.tree_leaves(self.inputs)}
        if len(counts) != 1 or counts == {0}:
            raise InputError(f"the inputs have {sorted(counts)} rows, expected one for each sample")
        self.samples = counts.pop()
        self.sizes = [leaf.size for leaf in self.trained]
        self.parameters = sum(self.sizes)

    def of_sample(self, trained: Sequence[jax.Array], x: Any) -> jax.Array:
        """The k outputs of one sample."""
        leaves = list(self._leaves)
        for place, leaf in zip(self._places, trained, strict=True):
            leaves[place] = leaf
        params = jax.tree_util.tree_unflatten(self._tree, leaves)
        batch = jax.tree_util.tree_map(lambda x: x[None], x)
        return jnp.reshape(self._apply(params, batch), -1)

    @cached_property
    def at_minimum(self) -> jax.Array:
        """The outputs of all samples, n × …, as the function returns them.

        Raises
        ------
        InputError
            If the function fails, or if a sample's outputs depend on the rest of its batch.
        """
        leaves = list(self._leaves)
        for place, leaf in zip(self._places, self.trained, strict=True):
            leaves[place] = leaf
        params = jax.tree_util.tree_unflatten(self._tree, leaves)
        try:
            found = self._apply(params, self.inputs)
        except (TypeError, ValueError) as error:
            raise InputError(f"apply(params, x) fails: {error}") from error
        if not hasattr(found, "shape") or found.ndim < 1 or found.shape[0] != self.samples:
            shape = getattr(found, "shape", type(found).__name__)
            raise InputError(
                f"apply(params, x) returns {shape} for {self.samples} samples, expected an array "
                "with a row for each; pick it: lambda params, x: model.apply(params, x)[0]"
            )
        if not bool(jnp.isfinite(found).all()):
            raise InputError("an output is NaN or infinite: the network diverged")
        rows = np.unique(np.linspace(0, self.samples - 1, 4).astype(int))
        scale = float(jnp.abs(found).max()) or 1.0
        for row in rows:
            x = jax.tree_util.tree_map(lambda x, row=row: x[row], self.inputs)
            alone = self.of_sample(self.trained, x)
            error = float(jnp.abs(alone - jnp.reshape(found[row], -1)).max())
            # NaN counts as different.
            if not error <= SAME.get(found.dtype, 0.05) * scale:
                raise InputError(
                    f"the outputs of sample {row} differ by {error:.3g} when it is alone in its "
                    "batch: the function mixes samples, as batch normalisation does in training. "
                    "Use its evaluation mode, such as train=False with the stored statistics"
                )
        return found

    @property
    def outputs(self) -> int:
        """The number k of outputs of a sample."""
        return self.at_minimum[0].size

    def rows(self, group: Sequence[int], chunk_size: int | None) -> Iterator[np.ndarray]:
        """The Jacobian in the trained arrays of a group, c·k rows of samples at a time."""
        rest = list(self.trained)

        def of_group(some: Sequence[jax.Array], x: Any) -> jax.Array:
            for place, leaf in zip(group, some, strict=True):
                rest[place] = leaf
            return self.of_sample(rest, x)

        differentiate = jax.jit(jax.vmap(jax.jacrev(of_group), in_axes=(None, 0)))
        some = [self.trained[place] for place in group]
        width = sum(self.sizes[place] for place in group)
        per_sample = self.outputs * width * some[0].dtype.itemsize
        chunk = chunk_size or max(1, CHUNK_BYTES // per_sample)
        # Chunks of equal length are compiled once.
        chunk = min(chunk, self.samples)
        for first in range(0, self.samples, chunk):
            start = min(first, self.samples - chunk)
            x = jax.tree_util.tree_map(lambda x, s=start: x[s : s + chunk], self.inputs)
            found = differentiate(some, x)
            parts = [np.asarray(part).reshape(chunk * self.outputs, -1) for part in found]
            block = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
            yield block[(first - start) * self.outputs :]

    def groups(self, columns: int) -> list[list[int]]:
        """The trained arrays in groups of at most so many numbers, or of one array."""
        found: list[list[int]] = []
        left = 0
        for place, size in enumerate(self.sizes):
            if not found or size > left:
                found.append([])
                left = columns
            found[-1].append(place)
            left -= size
        return found
