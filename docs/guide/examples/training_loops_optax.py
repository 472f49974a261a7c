"""Checks that the optimizers of optax take the steps of the rules in training_loops_numpy.py, for which the flags hold.

Gradients are those of a random quadratic, 200 steps in float64. For optax.adam, adamw and rmsprop the second moment is
put into the state of the optimizer and does not change.

Needs jax, optax and numpy:  python training_loops_optax.py
"""

import jax
import numpy as np
import optax
from training_loops_numpy import adamw, sgd

ALMOST_ONE, RATE, SIZE, STEPS = 1 - 1e-15, 0.01, 12, 200


def frozen(state, second_moment):
    """The state with this second moment, as if many steps had led to it."""

    def replace(part):
        if isinstance(part, optax.ScaleByAdamState):
            count = jax.numpy.asarray(10**9, part.count.dtype)
            nu = second_moment * (1 - ALMOST_ONE ** float(10**9))
            return part._replace(count=count, nu=nu)
        if isinstance(part, optax.ScaleByRmsState):
            return part._replace(nu=second_moment)
        return part

    def is_part(part):
        return isinstance(part, (optax.ScaleByAdamState, optax.ScaleByRmsState))

    return jax.tree.map(replace, state, is_leaf=is_part)


def rmsprop(d, momentum):
    def step(offset, g, buffer, rate):
        buffer = momentum * buffer + g / d
        return offset - rate * buffer, buffer

    return step


def difference(optimizer, rule, curvature, start, second_moment):
    """The largest difference between the two trajectories, relative to where they start."""
    here, there, buffer = jax.numpy.asarray(start), start, np.zeros(SIZE)
    state, largest = frozen(optimizer.init(here), jax.numpy.asarray(second_moment)), 0.0
    for _ in range(STEPS):
        updates, state = optimizer.update(curvature @ here, state, here)
        here = optax.apply_updates(here, updates)
        there, buffer = rule(there, curvature @ there, buffer, RATE)
        largest = max(largest, np.abs(np.asarray(here) - there).max() / np.abs(start).max())
    return largest


def main():
    jax.config.update("jax_enable_x64", True)
    print(f"jax {jax.__version__}, optax {optax.__version__}, numpy {np.__version__}")
    rng = np.random.default_rng(0)
    factor, start = rng.standard_normal((SIZE, SIZE)), rng.standard_normal(SIZE)
    curvature, second_moment = factor @ factor.T / SIZE, rng.uniform(0.5, 2, SIZE)
    d = np.sqrt(second_moment) + 1e-8
    inside = np.sqrt(second_moment + 1e-8)  # optax.rmsprop has ε inside the root unless eps_in_sqrt=False
    adam = dict(b1=0.9, b2=ALMOST_ONE)
    decayed = optax.chain(optax.add_decayed_weights(0.1), optax.sgd(RATE, momentum=0.9))
    for name, optimizer, rule in [
        ("sgd", optax.sgd(RATE), sgd()),
        ("sgd(momentum=.9)", optax.sgd(RATE, momentum=0.9), sgd(0.9)),
        ("sgd(momentum=.9, nesterov=True)", optax.sgd(RATE, momentum=0.9, nesterov=True), sgd(0.9, nesterov=True)),
        ("chain(add_decayed_weights(.1), sgd(momentum=.9))", decayed, sgd(0.9, weight_decay=0.1)),
        ("adam, frozen", optax.adam(RATE, **adam), adamw(d)),
        ("adamw(weight_decay=.1), frozen", optax.adamw(RATE, **adam, weight_decay=0.1), adamw(d, 0.1)),
        ("rmsprop, frozen", optax.rmsprop(RATE, decay=ALMOST_ONE), rmsprop(inside, 0)),
        ("rmsprop(momentum=.9), frozen", optax.rmsprop(RATE, decay=ALMOST_ONE, momentum=0.9), rmsprop(inside, 0.9)),
    ]:
        largest = difference(optimizer, rule, curvature, start, second_moment)
        print(f"optax.{name}: differs by {largest:.0e}")
        assert largest < 1e-5, name


if __name__ == "__main__":
    main()
