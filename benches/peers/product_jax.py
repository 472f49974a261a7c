"""The derivative of `jax.grad` along the vector, compiled."""

import jax
import jax.numpy as jnp

from common import Task

jax.config.update("jax_enable_x64", True)
task = Task()
parameters, vector = ([jnp.asarray(part) for part in parts] for parts in task.perceptron())
inputs, targets = jnp.asarray(task.inputs), jnp.asarray(task.targets)


def loss(parameters, inputs, targets):
    h = inputs
    layers = list(zip(parameters[::2], parameters[1::2]))
    for l, (weights, biases) in enumerate(layers):
        h = h @ weights.T + biases
        h = h if l + 1 == len(layers) else jnp.tanh(h)
    return 0.5 * jnp.sum((h - targets) ** 2) / len(targets)


@jax.jit
def product(parameters, vector, inputs, targets):
    return jax.jvp(lambda at: jax.grad(loss)(at, inputs, targets), (parameters,), (vector,))[1]


task.answer(
    f"jax {jax.__version__}",
    lambda: jax.block_until_ready(product(parameters, vector, inputs, targets)),
    1,
)
