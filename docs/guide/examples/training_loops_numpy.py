"""Checks the flags of the guide "Which flags for my training loop" with optimizers written out in numpy.

Each row puts a small network f(x) = A tanh(Wx) at a minimum and asks flatmin for η*. Eight runs of the optimizer then
start a distance of 1e-7 away. At .9 η* the median distance must have fallen to a hundredth, at 1.1 η* risen a
hundredfold; otherwise the script fails. The update rules are those of PyTorch, and weight decay is towards the trained
weights, so that the minimum stays where it is. training_loops.py does the same with PyTorch itself.

Needs numpy only:  python training_loops_numpy.py --out DIR
"""

import argparse
import json
import pathlib
import sys

import numpy as np

import flatmin_command

SAMPLES, INPUTS, WIDTH, PERTURBATION, SEEDS, STEPS = 16, 20, 16, 1e-7, 8, 6000
SMOOTHING = 0.1


def split(theta, outputs):
    """W and A of every run; theta is runs × p."""
    w = theta[:, : WIDTH * INPUTS].reshape(-1, WIDTH, INPUTS)
    return w, theta[:, WIDTH * INPUTS :].reshape(-1, outputs, WIDTH)


def forward(theta, x, outputs):
    """Hidden layer and outputs; x is runs × B × d, or the same B × d for all runs."""
    w, a = split(theta, outputs)
    hidden = np.tanh(x @ w.transpose(0, 2, 1))
    return hidden, hidden @ a.transpose(0, 2, 1)


def gradient(theta, x, residual, hidden, outputs):
    """Σ_i J_iᵀ residual_i of every run."""
    _, a = split(theta, outputs)
    by_w = ((residual @ a) * (1 - hidden**2)).transpose(0, 2, 1) @ x
    by_a = residual.transpose(0, 2, 1) @ hidden
    return np.concatenate([by_w.reshape(len(theta), -1), by_a.reshape(len(theta), -1)], axis=1)


def jacobian(theta, x, outputs):
    """The n × k × p array of one network, a row of `gradient` at a time."""
    rows = np.zeros((len(x), outputs, theta.size))
    hidden, _ = forward(theta[None], x, outputs)
    for i in range(len(x)):
        for o in range(outputs):
            unit = np.zeros((1, len(x), outputs))
            unit[0, i, o] = 1
            rows[i, o] = gradient(theta[None], x, unit, hidden, outputs)[0]
    return rows


def softmax(f):
    e = np.exp(f - f.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def minimum(x, least):
    """A random network, brought to the outputs `least` (n × k) by Gauss–Newton steps."""
    outputs = least.shape[1]
    rng = np.random.default_rng(1)
    theta = np.concatenate(
        [rng.standard_normal(WIDTH * INPUTS) / INPUTS**0.5, rng.standard_normal(outputs * WIDTH) / WIDTH**0.5]
    )
    for _ in range(30):
        missing = forward(theta[None], x, outputs)[1][0] - least
        rows = jacobian(theta, x, outputs).reshape(-1, theta.size)
        theta = theta - np.linalg.lstsq(rows, missing.ravel(), rcond=None)[0]
    assert np.abs(missing).max() < 1e-12, "Gauss–Newton did not come to the minimum"
    return theta


def sgd(momentum=0.0, dampening=0.0, nesterov=False, weight_decay=0.0):
    """torch.optim.SGD; `offset` is the difference to the trained weights."""

    def step(offset, g, buffer, rate):
        g = g + weight_decay * offset
        buffer = momentum * buffer + (1 - dampening) * g
        return offset - rate * (g + momentum * buffer if nesterov else buffer), buffer

    return step


def adamw(d, weight_decay=0.0):
    """torch.optim.AdamW with √v̂ + ε frozen at d, after its first steps."""

    def step(offset, g, buffer, rate):
        buffer = 0.9 * buffer + 0.1 * g
        return offset * (1 - rate * weight_decay) - rate * buffer / d, buffer

    return step


def distinct(rng, size):
    """Independent batches, drawn without replacement."""
    return [rng.permutation(SAMPLES)[:size] for _ in range(STEPS)]


def reshuffled(rng, size):
    """A new order every epoch, with a short last batch if n is not a multiple of B."""
    batches = []
    while len(batches) < STEPS:
        order = rng.permutation(SAMPLES)
        batches += [order[first : first + size] for first in range(0, SAMPLES, size)]
    return batches[:STEPS]


def factors(theta, x, target, loss_gradient, outputs, step, rate, directions, draw, size):
    """By what the distance to the minimum changes, for each seed, until it has left 1e-3 … 1e3."""
    rngs = [np.random.default_rng(100 + seed) for seed in range(SEEDS)]
    offset = np.stack([directions @ rng.standard_normal(directions.shape[1]) for rng in rngs])
    offset *= PERTURBATION / np.linalg.norm(offset, axis=1, keepdims=True)
    buffer, ratio = np.zeros_like(offset), np.ones(SEEDS)
    for batch in zip(*(draw(rng, size) for rng in rngs)):
        batch = np.stack(batch)
        here = theta + offset
        hidden, f = forward(here, x[batch], outputs)
        residual = loss_gradient(f, target[batch]) / batch.shape[1]
        offset, buffer = step(offset, gradient(here, x[batch], residual, hidden, outputs), buffer, rate)
        running = (ratio > 1e-3) & (ratio < 1e3)
        if not running.any():
            break
        ratio = np.where(running, np.linalg.norm(offset, axis=1) / PERTURBATION, ratio)
    return ratio


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, required=True, metavar="DIR", help="where the files go")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    print(f"Python {sys.version.split()[0]}, numpy {np.__version__}")

    rng = np.random.default_rng(0)
    x = rng.standard_normal((SAMPLES, INPUTS))
    x *= INPUTS**0.5 / np.linalg.norm(x, axis=1, keepdims=True)
    y = np.sin(x @ rng.standard_normal((INPUTS, 3)) / INPUTS**0.5)
    smoothed = np.eye(3)[y.argmax(axis=1)] * (1 - SMOOTHING) + SMOOTHING / 3
    logits = np.log(smoothed) - np.log(smoothed).mean(axis=1, keepdims=True)
    squared = (minimum(x, y[:, :1]), y[:, :1], lambda f, target: 2 * (f - target), ["--loss-scale", "2"])
    classes = (minimum(x, logits), smoothed, lambda f, target: softmax(f) - target, None)
    # A second moment as training would leave behind: of no parameter the same, over two orders of magnitude.
    d = 10 ** rng.uniform(-2, 0, squared[0].size)

    momentum = ["--momentum", "0.9"]
    adam = [*momentum, "--dampening", "0.9", "--preconditioner", "preconditioner"]
    decoupled = [*adam, "--decoupled-weight-decay", "5"]
    rows = [
        ("SGD", squared, sgd(), [], distinct, 4),
        ("momentum", squared, sgd(0.9), momentum, distinct, 12),
        ("Nesterov", squared, sgd(0.9, nesterov=True), [*momentum, "--nesterov"], distinct, 12),
        ("dampening", squared, sgd(0.9, 0.5), [*momentum, "--dampening", "0.5"], distinct, 12),
        ("weight decay", squared, sgd(0.9, weight_decay=5.0), [*momentum, "--weight-decay", "5"], distinct, 12),
        ("AdamW, frozen", squared, adamw(d, 5.0), decoupled, distinct, 12),
        ("reshuffling", squared, sgd(), ["--sampling", "reshuffling"], reshuffled, 4),
        *(("cross-entropy", classes, sgd(), [], distinct, size) for size in [1, 4, 8]),
    ]
    failed = 0
    for name, (theta, target, loss_gradient, loss_flags), step, flags, draw, size in rows:
        outputs = target.shape[1]
        j = jacobian(theta, x, outputs)
        path = options.out / ("cross-entropy.npz" if loss_flags is None else "squared.npz")
        arrays = {"jacobian": j if outputs > 1 else j[:, 0], "preconditioner": d}
        np.savez(path, **arrays, logits=forward(theta[None], x, outputs)[1][0])
        if loss_flags is None:
            loss_flags = ["--loss", "cross-entropy", "--logits", "logits"]
            j = j - j.mean(axis=1, keepdims=True)  # a common shift of the logits changes nothing
        command = ["analyze", str(path), "--batch-size", str(size), *loss_flags, *flags, "--format", "json"]
        output = flatmin_command.run(command)
        if output is None:
            sys.exit("this script needs flatmin")
        threshold = json.loads(output)["batches"][0]["threshold"]
        edge = float(threshold.get("estimate") or threshold["lower"])
        # The samples' steps span these directions; in all others the loss is constant.
        directions = j.reshape(-1, theta.size).T / (d[:, None] if "preconditioner" in flags else 1)
        there = (theta, x, target, loss_gradient, outputs, step)
        inside, outside = (
            np.median(factors(*there, times * edge, directions, draw, size)) for times in [0.9, 1.1]
        )
        as_predicted = inside < 1e-2 and outside > 1e2
        failed += not as_predicted
        verdict = "as predicted" if as_predicted else "NOT AS PREDICTED"
        print(f"{name}, B = {size}: η* {edge:.5g}, at .9 η* × {inside:.1e}, at 1.1 η* × {outside:.1e}: {verdict}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
