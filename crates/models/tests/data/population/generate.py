#!/usr/bin/env python3
"""Reference matrices E[grad f grad f'] of two-layer ReLU networks with inputs of the normal law.

    generate.py --check                         compare the committed files with recomputed values
    generate.py --new NAME --shape D M --seed S write a network and its matrix, NAME.npz

A case is one file; the tests find it by themselves. It holds the network f(x) = sum_j a_j max(w_j . x, 0) as
`w` (m x d) and `a` (m); `gauss_newton`, with the parameters in the order w row by row, then a; and numbers of
the matrix and of the network. The law uniform on the sphere of radius sqrt(d) has the same matrix, because
every entry is homogeneous of degree 2 in x.

For two neurons, 1(u . x > 0) 1(v . x > 0) selects a wedge of the plane of u and v. Its moments are integrals of
cos^2 and sin^2 over the angle, and the direction of x is independent of its length. No kernel formula is used.
"""

import argparse
import itertools
import pathlib
import sys

import numpy as np

FOLDER = pathlib.Path(__file__).resolve().parent


def moments(u, v):
    """E[1(u . x > 0) 1(v . x > 0) x x'] for a normal x."""
    u, v = u / np.linalg.norm(u), v / np.linalg.norm(v)
    # Twice the arc tangent of half the chord is exact for nearly equal and nearly opposite directions too.
    angle = 2 * np.arctan2(np.linalg.norm(u - v), np.linalg.norm(u + v))
    half = (np.pi - angle) / 2
    along = half + np.sin(2 * half) / 2
    across = half - np.sin(2 * half) / 2
    matrix = half * np.eye(len(u))
    for direction, moment in [(u + v, along), (u - v, across)]:
        length = np.linalg.norm(direction)
        if length > 1e-8:
            direction = direction / length
            matrix += (moment - half) * np.outer(direction, direction)
    return matrix / np.pi


def gauss_newton(w, a):
    m, d = w.shape
    matrix = np.zeros((m * d + m, m * d + m))
    for i, j in itertools.product(range(m), repeat=2):
        second = moments(w[i], w[j])
        matrix[i * d : i * d + d, j * d : j * d + d] = a[i] * a[j] * second
        matrix[i * d : i * d + d, m * d + j] = a[i] * second @ w[j]
        matrix[m * d + j, i * d : i * d + d] = matrix[i * d : i * d + d, m * d + j]
        matrix[m * d + i, m * d + j] = w[i] @ second @ w[j]
    return matrix


def reference(w, a):
    matrix = gauss_newton(w, a)
    return {
        "gauss_newton": matrix,
        "trace": np.trace(matrix),
        "frobenius_norm": np.linalg.norm(matrix),
        "lambda_max": np.linalg.eigvalsh(matrix)[-1],
        "path_norm": (np.abs(a) * np.linalg.norm(w, axis=1)).sum(),
        "frobenius_norm_of_w_squared": (w**2).sum(),
        "norm_of_a_squared": (a**2).sum(),
    }


def check():
    paths, wrong = sorted(FOLDER.glob("*.npz")), 0
    for path in paths:
        with np.load(path) as case:
            size = case["frobenius_norm"]
            for name, value in reference(case["w"], case["a"]).items():
                # Entries to the rounding of a few operations on numbers of the size of the norm.
                error = np.abs(value - case[name]).max() / (size if value.ndim else case[name])
                if not error <= 1e-14:
                    wrong += 1
                    print(f"{path.name}: {name} differs by {error:.1e}")
    print(f"{len(paths)} cases, {wrong} differences")
    return 1 if wrong or not paths else 0


def new(arguments):
    generator = np.random.default_rng(arguments.seed)
    d, m = arguments.shape
    w, a = generator.standard_normal((m, d)), generator.standard_normal(m)
    np.savez(FOLDER / f"{arguments.new}.npz", w=w, a=a, **reference(w, a))
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--new", metavar="NAME")
    parser.add_argument("--shape", nargs=2, type=int, default=[5, 4], metavar=("D", "M"))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    return new(arguments) if arguments.new else check()


if __name__ == "__main__":
    sys.exit(main())
