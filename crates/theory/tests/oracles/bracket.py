"""Writes `bracket.json`: the three roots of S20 for small Jacobians and given subspaces.

    python3 bracket.py > bracket.json

Everything is dense: the maps on tuples are matrices of size nk² x nk², the rest of the Gram matrix is formed,
and roots are found by bisection. For each case

- `below` is the root with the modes of the Nystrom approximation and the one direction for the rest,
- `estimate` is that with the diagonal blocks of the rest in place of everything left out,
- `above` is that of the upper operator for the leading `kept` Ritz vectors, raised by `raised`,
- `exact` is the root for the Gram matrix itself, by the plain definition.

The roots are values of 2/learning rate. `basis` spans the subspace, column by column.
"""

import json
import sys

import numpy as np


def split(rows, n, k):
    return rows.reshape(n, k, -1)


def response(values, mu, alpha):
    return mu * (values[:, None] + values[None]) / 2 - alpha * np.outer(values, values)


def phi(rows, weights, n, k):
    """sum_kl weights_kl J_ik J_jk J_il J_jl over outputs, as a matrix on n k x k blocks."""
    blocks = split(rows, n, k)
    map_to_blocks = np.einsum("iak,ibl->iabkl", blocks, blocks).reshape(n * k * k, -1)
    return (map_to_blocks * weights.reshape(1, -1)) @ map_to_blocks.T


def symmetric_basis(n, k):
    """Orthonormal coordinates of tuples of symmetric matrices."""
    columns = []
    for i in range(n):
        for a in range(k):
            for b in range(a + 1):
                block = np.zeros((n, k, k))
                block[i, a, b] = block[i, b, a] = 1.0 if a == b else 0.5**0.5
                columns.append(block.reshape(-1))
    return np.stack(columns, axis=1)


def multiply_blocks(blocks):
    n, k = blocks.shape[:2]
    out = np.zeros((n * k * k, n * k * k))
    for i in range(n):
        one = slice(i * k * k, (i + 1) * k * k)
        out[one, one] = (np.kron(blocks[i], np.eye(k)) + np.kron(np.eye(k), blocks[i])) / 2
    return out


def root(largest, low, high):
    while largest(high) > 1:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if largest(middle) > 1 else (low, middle)
    return high


def diagonal_blocks(matrix, n, k):
    return np.stack([matrix[i * k : (i + 1) * k, i * k : (i + 1) * k] for i in range(n)])


def roots(jacobian, n, k, p, alpha, basis, kept, weight):
    gram = jacobian @ jacobian.T / n
    coordinates = symmetric_basis(n, k)
    high = 2 * (alpha * np.trace(gram) + p * np.trace(gram) * n)

    def solve(build, pole):
        top = lambda mu: np.linalg.eigvalsh(coordinates.T @ build(mu) @ coordinates)[-1]
        return root(top, pole * (1 + 1e-13), high)

    values, vectors = np.linalg.eigh(gram)
    leading = values > 1e-13 * values[-1]
    values, rows = values[leading], vectors[:, leading] * np.sqrt(n * values[leading])
    exact = solve(lambda mu: p / n * phi(rows, 1 / response(values, mu, alpha), n, k), alpha * values[-1])

    ritz, turn = np.linalg.eigh(basis.T @ gram @ basis)
    order = np.argsort(-ritz)
    ritz, vectors = ritz[order], basis @ turn[:, order]
    image = gram @ vectors
    nystrom = image @ np.diag(1 / ritz) @ image.T
    values, modes = np.linalg.eigh(nystrom)
    values, modes = values[-len(ritz) :], modes[:, -len(ritz) :]
    rows = modes * np.sqrt(n * values)
    rest = n * diagonal_blocks(gram - nystrom, n, k)
    trace = np.einsum("iaa->", rest) / n
    flat = rest.reshape(-1)
    lead = lambda mu: p / n * phi(rows, 1 / response(values, mu, alpha), n, k)
    below = solve(lambda mu: lead(mu) + p / (n * mu * trace) * np.outer(flat, flat), alpha * values[-1])
    small = 1e-9 * values[-1]
    factor = lambda mu: p / (mu - alpha * small)
    estimate = solve(lambda mu: lead(mu) + factor(mu) * multiply_blocks(rest), alpha * values[-1])

    x = vectors[:, :kept]
    residual = image[:, :kept] - x * ritz[:kept]
    raised = weight * np.linalg.norm(residual, axis=0)
    outside = np.eye(n * k) - x @ x.T
    added = (residual / raised) @ residual.T
    others = outside @ gram @ outside + added
    tail = np.linalg.eigvalsh(outside @ gram @ outside)[-1]
    most = tail + np.linalg.norm(added, 2)
    values = ritz[:kept] + raised
    rows = x * np.sqrt(n * values)
    rest = n * diagonal_blocks(others, n, k)

    def upper(mu):
        h, h_rest = values / (mu - alpha * values), most / (mu - alpha * most)
        cross = p * np.where(h < h_rest, h, h_rest * (3 * h - h_rest) / (h + h_rest)) / values
        weights = p / response(values, mu, alpha) - (cross[:, None] / values[None] + cross[None] / values[:, None]) / 2
        blocks = np.einsum("iak,k,ibk->iab", split(rows, n, k), cross, split(rows, n, k))
        return phi(rows, weights, n, k) / n + multiply_blocks(blocks + p / (mu - alpha * most) * rest)

    above = solve(upper, alpha * values.max())
    assert below <= exact * (1 + 1e-9) and exact <= above * (1 + 1e-9), (below, exact, above)
    return {
        "exact": exact, "below": below, "estimate": estimate, "above": above,
        "kept": kept, "raised": raised.tolist(), "tail": tail,
    }


def main():
    rng = np.random.default_rng(20)
    cases = []
    for index, (n, k, batch, sampling) in enumerate([
        (16, 1, 1, "with-replacement"), (16, 1, 4, "without-replacement"), (14, 1, 3, "poisson"),
        (6, 3, 1, "with-replacement"), (7, 2, 2, "without-replacement"), (5, 3, 1, "poisson"),
    ]):
        jacobian = rng.standard_normal((n * k, 12)) * np.arange(1, 13) ** -0.9
        if index % 2:
            jacobian *= np.repeat(1 / rng.uniform(0.2, 1, n), k)[:, None]
        jacobian = np.round(jacobian, 6)
        basis = rng.standard_normal((n * k, 6))
        for _ in range(2):
            basis = np.linalg.qr(jacobian @ (jacobian.T @ basis))[0]
        p, alpha = {
            "with-replacement": (1 / batch, 1 - 1 / batch),
            "without-replacement": ((n - batch) / (batch * (n - 1)), 1 - (n - batch) / (batch * (n - 1))),
            "poisson": ((n - batch) / (n * batch), 1.0),
        }[sampling]
        case = {"samples": n, "outputs": k, "batch_size": batch, "sampling": sampling}
        case |= roots(jacobian, n, k, p, alpha, basis, 4 if index % 3 else 6, 2.0)
        cases.append(case | {"jacobian": jacobian.tolist(), "basis": basis.T.tolist()})
    json.dump(cases, sys.stdout)


if __name__ == "__main__":
    main()
