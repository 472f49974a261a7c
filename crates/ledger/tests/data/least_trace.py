"""Writes least_trace.csv: the least trace of interpolating univariate ReLU networks, by scipy.

    python least_trace.py            # writes the file, or checks that it agrees to 1e-9

The program of U3 is solved by HiGHS over a fine grid of knots, so that the values are upper bounds
that are too large by about the squared distance of the grid. A row is a problem: the inputs, the
targets, and the value of the program, in three fields with numbers separated by blanks.
"""

from pathlib import Path

import numpy as np
from scipy.optimize import linprog

FILE = Path(__file__).with_suffix(".csv")
KNOTS_IN_A_GAP = 1500


def least(x, y):
    """min Σ |c_j| h(τ_j) subject to c + Σ c_j (±(x_i − τ_j))₊ = y_i."""
    knots = np.concatenate([np.linspace(a, b, KNOTS_IN_A_GAP + 1) for a, b in zip(np.sort(x), np.sort(x)[1:])])
    columns, prices = [], []
    for sign in (1.0, -1.0):
        distance = np.maximum(sign * (x[:, None] - knots[None, :]), 0.0)
        h = np.sqrt(np.mean(distance**2, axis=0) * np.mean((1 + x[:, None] ** 2) * (distance > 0), axis=0))
        used = h > 0
        columns.append(distance[:, used] / h[used])
        prices.append(np.ones(used.sum()))
    a = np.concatenate(columns, axis=1)
    c = np.concatenate(prices)
    found = linprog(
        np.concatenate([c, c, [0.0]]),
        A_eq=np.concatenate([a, -a, np.ones((len(x), 1))], axis=1),
        b_eq=y,
        bounds=[(0, None)] * (2 * len(c)) + [(None, None)],
        method="highs",
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )
    assert found.status == 0, found.message
    return found.fun


def problems():
    rng = np.random.default_rng(20261130)
    yield np.array([-1.0, 0.0, 1.0]), np.array([1.0, 0.0, 1.0])
    yield np.array([-2.0, 0.5, 1.0, 3.0]), np.array([0.3, -1.0, 2.0, 0.1])
    x = -1 + 2 * (np.arange(10) + rng.uniform(0.25, 0.75, 10)) / 10
    yield x, np.sin(np.pi * x)
    yield x, np.sin(np.pi * x) + 0.3 * rng.standard_normal(10)
    x = np.sort(rng.standard_normal(7)) + 2.0
    yield x, rng.standard_normal(7)


def main():
    text = ""
    for x, y in problems():
        numbers = [" ".join(repr(float(v)) for v in values) for values in (x, y, [least(x, y)])]
        text += ",".join(numbers) + "\n"
    if FILE.exists():
        read = lambda text: np.array([float(v) for v in text.replace("\n", " ").replace(",", " ").split()])
        difference = np.max(np.abs(read(text) - read(FILE.read_text())))
        assert difference < 1e-9, difference
        print(f"largest difference: {difference:.1e}")
    else:
        FILE.write_text(text)


if __name__ == "__main__":
    main()
