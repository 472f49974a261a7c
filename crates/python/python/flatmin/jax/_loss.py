"""What a loss of JAX is in flatmin's terms, found by its derivatives in the outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flatmin import InputError

from ._network import double_precision

#: Losses that are known by a name.
NAMES = ("mse", "squared")

ONE = (
    "expected the mean over samples, or a number for each: lambda outputs, targets: "
    "optax.softmax_cross_entropy_with_integer_labels(outputs, targets)"
)


def read_loss(loss: str | Callable, outputs: jax.Array, targets: Any) -> dict[str, Any]:
    """Keywords of :func:`flatmin.analyze` for the loss at the outputs of all samples.

    Parameters
    ----------
    loss
        A function (outputs, targets) of a batch, the mean over its samples or a number for each;
        ``"mse"`` for ``jnp.mean((outputs - targets) ** 2)``, ``"squared"`` for half the mean of
        the squared norm.

    Raises
    ------
    InputError
        If the loss is no mean over samples, or not convex and twice differentiable in the outputs.
    """
    if isinstance(loss, str):
        if loss not in NAMES:
            raise InputError(
                f'loss is "{loss}", expected "mse", "squared" or a function (outputs, targets)'
            )
        _check_classes(f'the loss is "{loss}"', outputs, targets)
        k = outputs[0].size
        factor = 2.0 / k if loss == "mse" else 1.0

        def loss(f: Any, y: Any) -> Any:
            return factor / 2 * jnp.sum(jnp.square(f - y)) / len(f)

    elif not callable(loss):
        raise InputError(f"loss is a {type(loss).__name__}, expected a function (outputs, targets)")
    if targets is None:
        raise InputError("the data have no targets, which the loss needs: give (x, y)")
    with double_precision():
        return _by_derivatives(loss, *_widened(outputs, targets))


def _widened(outputs: jax.Array, targets: Any) -> tuple[jax.Array, Any]:
    def wide(x: Any) -> jax.Array:
        x = jnp.asarray(x)
        return x.astype(jnp.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x

    return wide(outputs), jax.tree_util.tree_map(wide, targets)


def _by_derivatives(loss: Callable, outputs: jax.Array, targets: Any) -> dict[str, Any]:
    n, k = len(outputs), outputs[0].size
    shapes = {leaf.shape[:1] for leaf in jax.tree_util.tree_leaves(targets)}
    if shapes != {(n,)}:
        raise InputError(f"the targets have shapes {sorted(shapes)}…, expected {n} rows")
    _check_shape(outputs, targets)

    def of_sample(f: jax.Array, y: Any) -> jax.Array:
        batch = jax.tree_util.tree_map(lambda y: y[None], y)
        value = jnp.asarray(loss(f.reshape(1, *outputs.shape[1:]), batch))
        if value.size != 1:
            raise InputError(f"the loss of one sample has the shape {value.shape}; {ONE}")
        return value.reshape(())

    flat = outputs.reshape(n, k)
    try:
        gradients = jax.vmap(jax.grad(of_sample))(flat, targets)
        hessians = jax.vmap(jax.hessian(of_sample))(flat, targets)
    except (TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"the loss cannot be differentiated: {error}") from error
    _check_mean(loss, of_sample, outputs, targets)
    gradients, hessians = np.asarray(gradients), np.asarray(hessians)
    found = {"residuals": gradients, "logits": np.asarray(flat)}
    finite = np.isfinite(hessians).all(axis=(1, 2)) & np.isfinite(gradients).all(axis=1)
    if not finite.all():
        sample = int(np.argmin(finite))
        raise InputError(f"the loss has no finite second derivative at the outputs of {sample}")
    factor = hessians[0, 0, 0]
    # Half a squared distance has the same multiple of the identity for every sample.
    if factor > 0 and np.abs(hessians - factor * np.eye(k)).max() <= 1e-12 * factor:
        found["residuals"] = gradients / factor
        return found | {"loss_scale": float(f"{factor:.12g}")}
    hessians = (hessians + hessians.transpose(0, 2, 1)) / 2
    eigenvalues = np.linalg.eigvalsh(hessians)
    largest = np.abs(eigenvalues).max()
    if largest == 0:
        raise InputError("the loss has no curvature in the outputs: its second derivatives vanish")
    sample = int(eigenvalues[:, 0].argmin())
    lowest = eigenvalues[sample, 0]
    if lowest < -1e-9 * largest:
        raise InputError(
            f"the loss is not convex in the outputs of sample {sample}: an eigenvalue of its "
            f"second derivatives is {lowest:.3g}; thresholds are those of convex losses"
        )
    return found | {"loss": "custom", "output_hessian": hessians}


def _check_classes(what: str, outputs: jax.Array, targets: Any) -> None:
    """Refuses a squared error with whole numbers as targets that are classes by their shape."""
    if not hasattr(targets, "shape") or not jnp.issubdtype(targets.dtype, jnp.integer):
        return
    n, k = len(outputs), outputs[0].size
    is_class = targets.shape == (n,) and 0 <= int(targets.min()) and int(targets.max()) < k
    if k > 1 and is_class:
        raise InputError(
            f"{what}, and the targets are one whole number below {k} for each sample, with {k} "
            "outputs: these are classes, to be trained with "
            "loss=optax.softmax_cross_entropy_with_integer_labels"
        )


def _check_shape(outputs: jax.Array, targets: Any) -> None:
    """Refuses n × 1 outputs beside n targets of numbers, which broadcast to n × n."""
    if not isinstance(targets, jax.Array) or not jnp.issubdtype(targets.dtype, jnp.floating):
        return
    if outputs.ndim != targets.ndim and outputs.size == targets.size:
        raise InputError(
            f"outputs are {outputs.shape} and targets {targets.shape}: their difference would "
            "broadcast; give targets of the outputs' shape, in training too"
        )


def _check_mean(loss: Callable, of_sample: Callable, outputs: jax.Array, targets: Any) -> None:
    """Checks that the loss of a batch is the mean of those of its samples."""
    rows = max(2, 2 * len(outputs) // 3)
    if len(outputs) < 2:
        return
    # Where all losses are alike, a mean is as good as many other functions: move away from there.
    noise = jax.random.normal(jax.random.PRNGKey(0), outputs.shape)
    outputs = outputs + 1e-2 * (1 + jnp.abs(outputs)) * noise
    values = jax.vmap(of_sample)(outputs.reshape(len(outputs), -1), targets)
    some = jax.tree_util.tree_map(lambda y: y[:rows], targets)
    batch = jnp.asarray(loss(outputs[:rows], some))
    if batch.shape == (rows,):
        batch = batch.mean()
    if batch.size != 1:
        raise InputError(f"the loss of {rows} samples has the shape {batch.shape}; {ONE}")
    mean, total = float(values[:rows].mean()), float(values[:rows].sum())
    error = 1e-9 * (float(jnp.abs(values).mean()) + 1e-300)
    if abs(float(batch) - mean) <= error:
        return
    if abs(float(batch) - total) <= rows * error:
        raise InputError(
            "the loss of a batch is the sum over its samples; take their mean, and a learning rate "
            "that is larger by the batch size"
        )
    raise InputError(
        f"the loss of {rows} samples is {float(batch):.6g}, and the mean of their losses one by "
        f"one {mean:.6g}: it is no mean over samples; {ONE}"
    )
