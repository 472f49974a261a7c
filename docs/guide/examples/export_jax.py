"""Trains a small JAX network, exports its Jacobian and asks flatmin how stable its minimum is.

The loss is the mean of ½ (f − y)², as optax.l2_loss has it: flatmin's own, so that --loss-scale is 1.
Needs jax and numpy:  python export_jax.py --out DIR
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np

import flatmin_command

jax.config.update("jax_enable_x64", True)

SAMPLES, INPUTS, BATCH_SIZE = 24, 6, 8


def initialise(key, sizes):
    """Dense layers, each a dictionary; any pytree will do."""
    keys = jax.random.split(key, len(sizes) - 1)
    return [
        {"kernel": jax.random.normal(key, (fan_in, fan_out)) / jnp.sqrt(fan_in), "bias": jnp.zeros(fan_out)}
        for key, fan_in, fan_out in zip(keys, sizes, sizes[1:])
    ]


def network(parameters, x):
    """The output, a number, for one sample."""
    for layer in parameters[:-1]:
        x = jnp.tanh(x @ layer["kernel"] + layer["bias"])
    return (x @ parameters[-1]["kernel"] + parameters[-1]["bias"])[0]


def two_layer_relu(parameters, x):
    """f(x) = Σ_j a_j relu(w_j·x), the network that `flatmin train` can replay."""
    return jax.nn.relu(parameters["w"] @ x) @ parameters["a"]


def train(function, parameters, x, y, order, learning_rate):
    """Plain SGD; every row of `order` holds the samples of one step."""

    def loss(parameters, batch):
        outputs = jax.vmap(function, in_axes=(None, 0))(parameters, x[batch])
        return jnp.mean((outputs - y[batch]) ** 2) / 2

    def step(parameters, batch):
        gradient = jax.grad(loss)(parameters, batch)
        return jax.tree.map(lambda p, g: p - learning_rate * g, parameters, gradient), None

    parameters, _ = jax.jit(lambda start: jax.lax.scan(step, start, order))(parameters)
    return parameters, loss(parameters, jnp.arange(len(x))).item()


def record_replay(options):
    """Trains the network that flatmin knows, and has `flatmin train` repeat it step by step."""
    keys = jax.random.split(jax.random.key(options.seed), 4)
    x = jax.random.normal(keys[0], (SAMPLES, INPUTS))
    y = jnp.sin(x.sum(axis=1))
    order = jax.random.randint(keys[1], (1000, BATCH_SIZE), 0, SAMPLES)
    start = {"w": jax.random.normal(keys[2], (40, INPUTS)) / INPUTS**0.5, "a": jax.random.normal(keys[3], 40) / 40**0.5}
    flatmin_command.save_replay(options.out, x=x, y=y, **start, order=order, learning_rate=0.05)
    end, _ = train(two_layer_relu, start, x, y, order, 0.05)
    flatmin_command.replay(options.out, w=np.asarray(end["w"]), a=np.asarray(end["a"]), do_run=not options.no_analyze)


def jacobian(parameters, x):
    """The n × k × p array of ∂f_o(x_i)/∂θ and the size of each block, in the order of jax.flatten_util.ravel_pytree."""

    def outputs(parameters, sample):
        return jnp.ravel(network(parameters, sample))  # k numbers, also for k = 1

    by_leaf = jax.vmap(jax.jacrev(outputs), in_axes=(None, 0))(parameters, x)
    leaves = jax.tree_util.tree_leaves_with_path(by_leaf)
    blocks = {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf.reshape(*leaf.shape[:2], -1) for path, leaf in leaves
    }
    sizes = {name: block.shape[2] for name, block in blocks.items()}
    return np.concatenate([np.asarray(block) for block in blocks.values()], axis=2), sizes


def gram(parameters, x):
    """The nk × nk matrix JJᵀ, not divided by n, its rows sample by sample: the columns of each leaf are made once."""
    leaves, tree = jax.tree.flatten(parameters)
    total = 0
    for i, leaf in enumerate(leaves):

        def outputs(part, sample):
            return jnp.ravel(network(jax.tree.unflatten(tree, [*leaves[:i], part, *leaves[i + 1 :]]), sample))

        j = np.asarray(jax.vmap(jax.jacrev(outputs), in_axes=(None, 0))(leaf, x), np.float64)
        j = j.reshape(j.shape[0] * j.shape[1], -1)  # nk × the columns of the leaf
        total = total + j @ j.T
    return total


def main():
    options = flatmin_command.arguments(__doc__.splitlines()[0], learning_rate=0.3, steps=20_000)
    print(f"Python {sys.version.split()[0]}, jax {jax.__version__}, numpy {np.__version__}, seed {options.seed}")

    keys = jax.random.split(jax.random.key(options.seed), 4)
    x = jax.random.normal(keys[0], (SAMPLES, INPUTS))
    y = jnp.sin(x @ jax.random.normal(keys[1], (INPUTS,)))
    draw = lambda key: jax.random.choice(key, SAMPLES, (BATCH_SIZE,), replace=False)
    order = jax.vmap(draw)(jax.random.split(keys[2], options.steps))

    parameters, loss = train(network, initialise(keys[3], [INPUTS, 48, 1]), x, y, order, options.learning_rate)
    flatmin_command.report_training(options, BATCH_SIZE, loss)

    j, sizes = jacobian(parameters, x)
    print(f"Jacobian: {' × '.join(map(str, j.shape))}, trace of JᵀJ/n {np.sum(j**2) / SAMPLES:.6g}")
    report = flatmin_command.analyze(
        flatmin_command.save_jacobian(options.out, j, options.format),
        flatmin_command.save_blocks(options.out, sizes),
        batch_sizes=[1, BATCH_SIZE],
        learning_rate=options.learning_rate,
        loss_scale=1.0,  # jnp.mean((outputs - y) ** 2), without the ½, would make it 2
        do_run=not options.no_analyze,
    )
    if report is not None:
        print(flatmin_command.conclusion(report, trained_with=BATCH_SIZE))
    if options.replay:
        record_replay(options)


if __name__ == "__main__":
    main()
