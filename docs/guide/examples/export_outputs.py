"""Trains a small network with three outputs and writes its Jacobian, samples × outputs × parameters.

The network is f(x) = A relu(W x), the loss of a batch is (1/2B) Σ ‖f − y‖², so that --loss-scale is 1.
Needs numpy only:  python export_outputs.py --out DIR
"""

import argparse
import pathlib

import numpy as np

SAMPLES, INPUTS, WIDTH, OUTPUTS, BATCH_SIZE = 12, 4, 16, 3, 4
LEARNING_RATE, STEPS, SEED = 0.05, 40_000, 0


def jacobian(w, a, x):
    """The n × k × p array of ∂f_o(x_i)/∂(w, a), the last axis in the order of w.ravel(), a.ravel()."""
    z = x @ w.T
    by_w = (z > 0)[:, None, :, None] * a[None, :, :, None] * x[:, None, None, :]
    by_a = np.eye(OUTPUTS)[None, :, :, None] * np.maximum(z, 0)[:, None, None, :]
    return np.concatenate([part.reshape(len(x), OUTPUTS, -1) for part in (by_w, by_a)], axis=2)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("out"))
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)

    rng = np.random.default_rng(SEED)
    x = rng.standard_normal((SAMPLES, INPUTS))
    y = np.sin(x @ rng.standard_normal((INPUTS, OUTPUTS)))
    w = rng.standard_normal((WIDTH, INPUTS)) / np.sqrt(INPUTS)
    a = rng.standard_normal((OUTPUTS, WIDTH)) / np.sqrt(WIDTH)
    for _ in range(STEPS):
        batch = rng.choice(SAMPLES, BATCH_SIZE, replace=False)
        z = x[batch] @ w.T
        hidden = np.maximum(z, 0)
        residual = (hidden @ a.T - y[batch]) / BATCH_SIZE
        by_hidden = (residual @ a) * (z > 0)
        a -= LEARNING_RATE * residual.T @ hidden
        w -= LEARNING_RATE * by_hidden.T @ x[batch]
    loss = np.mean(np.sum((np.maximum(x @ w.T, 0) @ a.T - y) ** 2, axis=1)) / 2
    print(f"trained: {STEPS} steps, batches of {BATCH_SIZE}, learning rate {LEARNING_RATE}, loss {loss:.3g}")
    np.save(out / "outputs.npy", jacobian(w, a, x))


if __name__ == "__main__":
    main()
