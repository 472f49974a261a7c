"""Right inputs that are regular in some way: grids, series, differences, wavelets, factors.

Numpy only. Each is the Jacobian n x p of one output.
"""

import numpy as np

from networks import by_parameter, joined, perceptron


def lines(rows, columns):
    """The points of a grid, line by line."""
    u, v = np.linspace(-2, 2, rows), np.linspace(-1, 1, columns)
    return np.array([[a, b] for a in u for b in v])


def network_at(seed, x, hidden, activation="tanh", bias=True):
    """The Jacobian of a network of one output at these inputs."""
    layers = perceptron(np.random.default_rng(seed), [x.shape[1], *hidden, 1], bias=bias)
    return joined(by_parameter(layers, x, activation))[:, 0]


def crossed(rng, rows, columns):
    """All pairs of some points of two inputs with some of three."""
    u, v = rng.normal(size=(rows, 2)), rng.normal(size=(columns, 3))
    return np.array([np.r_[a, b] for a in u for b in v])


def windows(series, length):
    return np.stack([series[i : len(series) - length + i + 1] for i in range(length)], axis=1)


def difference(n, stencil):
    """The matrix of differences with this stencil around the diagonal, zero beyond the ends."""
    half = len(stencil) // 2
    return sum(value * np.eye(n, k=at - half) for at, value in enumerate(stencil))


def haar(levels):
    basis = np.ones((1, 1))
    for _ in range(levels):
        basis = np.vstack([np.kron(basis, [1, 1]), np.kron(np.eye(len(basis)), [1, -1])]) / np.sqrt(2)
    return basis.T


def hats(x, count):
    """Piecewise linear functions with their peaks at equal distances in [0, 1]."""
    return np.maximum(0, 1 - np.abs(x[:, None] - np.linspace(0, 1, count)) * (count - 1))


def gaussian_kernel(x, width):
    """A kernel matrix, with its rounding below the diagonal's last digits."""
    squares = ((x[:, None] - x[None]) ** 2).sum(-1)
    return np.exp(-squares / width) + 1e-8 * np.eye(len(x))


def root(gram):
    """A Jacobian with this Gram matrix."""
    values, vectors = np.linalg.eigh(gram)
    return vectors * np.sqrt(np.maximum(values, 0))


def one_factor(rng, rows, columns, noise):
    """Centred data with one dominant direction, of Frobenius norm 1."""
    x = rng.normal(size=(rows, 1)) @ rng.normal(size=(1, columns))
    x = x + noise * rng.normal(size=(rows, columns))
    x = x - x.mean(0)
    return x / np.linalg.norm(x)


def returns(rng, rows, columns):
    """Daily returns: a market, and a volatility that drifts."""
    volatility = 0.01 * np.exp(np.cumsum(0.2 * rng.normal(size=(rows, 1)), axis=0))
    return volatility * (rng.normal(size=(rows, 1)) + rng.normal(size=(rows, columns)))
