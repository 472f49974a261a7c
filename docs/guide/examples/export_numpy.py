"""Trains a small network with a hand-written backward pass and asks flatmin how stable its minimum is.

The network is f(x) = Σ_j a_j relu(w_j·x), the loss of a batch is (1/2B) Σ (f − y)², so that --loss-scale is 1.
Needs numpy only:  python export_numpy.py --out DIR
"""

import sys

import numpy as np

import flatmin_command

SAMPLES, INPUTS, WIDTH, BATCH_SIZE = 24, 6, 40, 8


def forward(w, a, x):
    """Outputs and pre-activations; w is m × d, x is n × d."""
    z = x @ w.T
    return np.maximum(z, 0) @ a, z


def jacobian(w, a, x):
    """The n × p matrix of ∂f(x_i)/∂(w, a), the columns in the order of w.ravel(), a."""
    _, z = forward(w, a, x)
    by_w = ((z > 0) * a)[:, :, None] * x[:, None, :]
    return np.concatenate([by_w.reshape(len(x), -1), np.maximum(z, 0)], axis=1)


def train(w, a, x, y, order, learning_rate):
    """SGD; every row of `order` holds the samples of one step."""
    w, a = w.copy(), a.copy()
    for batch in order:
        f, z = forward(w, a, x[batch])
        residual = (f - y[batch]) / len(batch)
        gradient_w = ((z > 0) * a * residual[:, None]).T @ x[batch]
        gradient_a = residual @ np.maximum(z, 0)
        w -= learning_rate * gradient_w
        a -= learning_rate * gradient_a
    return w, a


def main():
    options = flatmin_command.arguments(__doc__.splitlines()[0], learning_rate=0.1, steps=10_000)
    print(f"Python {sys.version.split()[0]}, numpy {np.__version__}, seed {options.seed}")

    rng = np.random.default_rng(options.seed)
    x = rng.standard_normal((SAMPLES, INPUTS))
    y = np.sin(x @ rng.standard_normal(INPUTS))
    w = rng.standard_normal((WIDTH, INPUTS)) / np.sqrt(INPUTS)
    a = rng.standard_normal(WIDTH) / np.sqrt(WIDTH)
    order = np.stack([rng.choice(SAMPLES, BATCH_SIZE, replace=False) for _ in range(options.steps)])
    if options.replay:
        flatmin_command.save_replay(
            options.out, x=x, y=y, w=w, a=a, order=order, learning_rate=options.learning_rate
        )

    w, a = train(w, a, x, y, order, options.learning_rate)
    loss = np.mean((forward(w, a, x)[0] - y) ** 2) / 2
    flatmin_command.report_training(options, BATCH_SIZE, loss)

    j = jacobian(w, a, x)
    print(f"Jacobian: {j.shape[0]} × {j.shape[1]}, trace of JᵀJ/n {np.sum(j**2) / SAMPLES:.6g}")
    report = flatmin_command.analyze(
        flatmin_command.save_jacobian(options.out, j, options.format),
        flatmin_command.save_blocks(options.out, {"w": w.size, "a": a.size}),
        batch_sizes=[1, BATCH_SIZE],
        learning_rate=options.learning_rate,
        loss_scale=1.0,
        do_run=not options.no_analyze,
    )
    if report is not None:
        print(flatmin_command.conclusion(report, trained_with=BATCH_SIZE))
    if options.replay:
        flatmin_command.replay(options.out, w=w, a=a, do_run=not options.no_analyze)


if __name__ == "__main__":
    main()
