"""Computes the reference values of optimizers.json again, by a naive route.

Every batch that can be drawn is listed with its probability. PyTorch's update becomes a matrix for
each batch, the second moments of the state become a dense operator, and the threshold is where its
spectral radius is 1. Only the inputs of the file are kept: Jacobians, logits, residuals,
preconditioners, and the settings of each case.

    python3 crates/theory/tests/oracles/optimizers.py [--check]

With --check nothing is written; the exit status is 1 if a value differs by more than 1e-8.
"""

import itertools
import json
import math
import pathlib
import sys

import numpy as np

FILE = pathlib.Path(__file__).with_suffix(".json")


def batches(n, size, sampling):
    """Pairs of weights of the samples (already divided by B) and a probability."""
    if sampling == "without_replacement":
        subsets = list(itertools.combinations(range(n), size))
        for subset in subsets:
            yield np.isin(range(n), subset) / size, 1 / len(subsets)
    elif sampling == "with_replacement":
        for drawn in itertools.combinations_with_replacement(range(n), size):
            counts = np.bincount(drawn, minlength=n)
            ways = math.factorial(size) / math.prod(math.factorial(c) for c in counts)
            yield counts / size, ways / n**size
    else:
        for drawn in itertools.product([0, 1], repeat=n):
            counts, share = np.array(drawn), size / n
            yield counts / size, math.prod(share if c else 1 - share for c in drawn)


def step(optimizer, rate, curvature):
    """The matrix of PyTorch's update of (θ, buffer) for the gradient curvature · θ."""
    p = len(curvature)
    eye, zero = np.eye(p), np.zeros((p, p))
    beta, tau = optimizer.get("momentum", 0), optimizer.get("dampening", 0)
    gradient = np.hstack([curvature + optimizer.get("weight_decay", 0) * eye, zero])
    theta = np.hstack([(1 - rate * optimizer.get("decoupled_weight_decay", 0)) * eye, zero])
    buffer = beta * np.hstack([zero, eye]) + (1 - tau) * gradient
    if beta == 0:
        return np.vstack([theta - rate * gradient, np.hstack([zero, zero])])
    direction = gradient + beta * buffer if optimizer.get("nesterov") else buffer
    return np.vstack([theta - rate * direction, buffer])


def curvatures(instance):
    """The curvature of each sample, reduced to the range of their mean, and the reduced rows."""
    k = instance["outputs"]
    rows = np.array(instance["jacobian"])
    if "preconditioner" in instance:
        rows = rows / np.sqrt(instance["preconditioner"])
    blocks = rows.reshape(-1, k, rows.shape[1])
    hessians = [np.eye(k)] * len(blocks)
    if "logits" in instance:
        odds = np.exp(np.array(instance["logits"]))
        pi = odds / odds.sum(axis=1, keepdims=True)
        hessians = [np.diag(q) - np.outer(q, q) for q in pi]
    each = [block.T @ hessian @ block for block, hessian in zip(blocks, hessians)]
    values, vectors = np.linalg.eigh(sum(each) / len(each))
    basis = vectors[:, values > 1e-12 * values[-1]]
    return [basis.T @ one @ basis for one in each], blocks @ basis


def moments(each, case, rate):
    """E[A ⊗ A] over the batches."""
    total = 0
    for weights, probability in batches(len(each), case["batch_size"], case["sampling"]):
        curvature = sum(w * one for w, one in zip(weights, each))
        matrix = step(case["optimizer"], rate, curvature)
        total = total + probability * np.kron(matrix, matrix)
    return total


def threshold(each, case):
    def radius(rate):
        return max(abs(np.linalg.eigvals(moments(each, case, rate))))

    low, high = 0.0, 1e-3
    while radius(high) < 1:
        low, high = high, 1.05 * high
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if radius(middle) < 1 else (low, middle)
    return low


def contraction(each, case):
    """The largest η at which E‖δ'‖² ≤ ‖δ‖² for every δ."""
    square = 0
    for weights, probability in batches(len(each), case["batch_size"], case["sampling"]):
        curvature = sum(w * one for w, one in zip(weights, each))
        square = square + probability * curvature @ curvature
    values, vectors = np.linalg.eigh(sum(each) / len(each))
    root = vectors / np.sqrt(values)
    return 2 / np.linalg.eigvalsh(root.T @ square @ root)[-1]


def noise_floor(instance, each, rows, case, rate):
    """The mean training loss of the stationary law, for one output."""
    residuals = np.array(instance["residuals"])
    n, p = len(each), len(each[0])
    gradients = rows[:, 0, :] * residuals[:, None]
    source = 0
    for weights, probability in batches(n, case["batch_size"], case["sampling"]):
        # The push of the batch: the update of a state at rest by its mean gradient.
        unit = step(case["optimizer"], rate, np.eye(p)) - step(case["optimizer"], rate, 0 * np.eye(p))
        push = unit[:, :p] @ (weights @ gradients)
        source = source + probability * np.outer(push, push)
    operator = moments(each, case, rate)
    size = len(source)
    law = np.linalg.solve(np.eye(size**2) - operator, source.ravel()).reshape(size, size)
    spread = np.einsum("ia,ab,ib->i", rows[:, 0, :], law[:p, :p], rows[:, 0, :])
    return 0.5 * np.mean(residuals**2 + spread), 0.5 * np.mean(residuals**2)


def renewed(instance):
    each, rows = curvatures(instance)
    for case in instance["cases"]:
        case["threshold"] = threshold(each, case)
        if case["contraction_bound"] is not None:
            case["contraction_bound"] = contraction(each, case)
        if "noise_floor" in case:
            floor = case["noise_floor"]
            total, still = noise_floor(instance, each, rows, case, floor["learning_rate"])
            floor["training_loss"], floor["loss_at_minimum"] = total, still
    return instance


def numbers(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for one in value for number in numbers(one)]
    return [value] if isinstance(value, float) else []


def main():
    old = json.loads(FILE.read_text())
    new = [renewed(json.loads(json.dumps(instance))) for instance in old]
    errors = [abs(a / b - 1) for a, b in zip(numbers(new), numbers(old)) if b]
    print(f"{len(old)} Jacobians, largest relative change {max(errors):.1e}")
    if "--check" in sys.argv:
        sys.exit(max(errors) > 1e-8)
    FILE.write_text("[\n" + ",\n".join(json.dumps(instance) for instance in new) + "\n]\n")


if __name__ == "__main__":
    main()
