"""All steps in one compiled scan, with the gradient by `jax.grad` or by hand."""

import jax
import jax.numpy as jnp

from common import Task

jax.config.update("jax_enable_x64", True)
task = Task()
(variant,) = task.variant
X, y = jnp.asarray(task.inputs), jnp.asarray(task.targets)
is_relu, is_sgd = task.work.startswith("relu"), task.work.endswith("sgd")
units = len(task.samples) if is_sgd else task.step_count


def output(layers, x):
    first, second = layers
    return jax.nn.relu(x @ first.T) @ second if is_relu else x @ (first * second)


def loss(layers, x, target):
    return 0.5 * jnp.mean((output(layers, x) - target) ** 2)


def by_hand(layers, x, target):
    first, second = layers
    if not is_relu:
        residual = x @ (first * second) - target
        c = residual * x if is_sgd else residual @ x / len(y)
        return c * second, c * first
    z = x @ first.T
    h = jnp.maximum(z, 0.0)
    residual = h @ second - target
    if is_sgd:
        return jnp.outer(residual * second * (z > 0.0), x), residual * h
    residual = residual / len(y)
    return (residual[:, None] * (z > 0.0) * second).T @ x, residual @ h


gradient = {"grad": jax.grad(loss), "hand": by_hand}[variant]


def step(layers, sample):
    x, target = (X[sample], y[sample]) if is_sgd else (X, y)
    gradients = gradient(layers, x, target)
    norm = jnp.sqrt(sum(jnp.sum(part**2) for part in gradients))
    factor = task.learning_rate * jnp.where(norm > task.clip_norm, task.clip_norm / norm, 1.0)
    return tuple(layer - factor * part for layer, part in zip(layers, gradients)), None


@jax.jit
def steps(layers, samples):
    return jax.lax.scan(step, layers, samples)[0]


layers = tuple(jnp.asarray(layer) for layer in task.layers())
samples = jnp.asarray(task.samples) if is_sgd else jnp.arange(units)
task.answer(f"jax {jax.__version__}", lambda: jax.block_until_ready(steps(layers, samples)), units)
