"""Trace and largest eigenvalue, times and agreement: flatmin beside other libraries.

    python compare.py [--samples 32] [--width 32]

Every library sees the same network, data and loss, in float64, at a point where the Hessian of the
loss is its Gauss–Newton matrix: each sample has its least loss. Libraries that are not installed,
or that do not import, are left out. Estimates are compared within three of their standard errors,
all else to a relative 1e-6; the exit status is 1 where something differs.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import flatmin
import flatmin.torch

INPUTS, OUTPUTS = 16, 3


@dataclass
class Found:
    """A number of a library; `error` is what it says about itself."""

    quantity: str
    how: str
    value: float
    error: float = 0.0


@dataclass
class Problem:
    """A network at a minimum."""

    name: str
    model: nn.Sequential
    loss: nn.Module
    x: Tensor
    y: Tensor


def problems(samples: int, width: int) -> list[Problem]:
    torch.manual_seed(0)
    layers = [nn.Linear(INPUTS, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh()]
    model = nn.Sequential(*layers, nn.Linear(width, OUTPUTS)).double()
    x = torch.randn(samples, INPUTS).double()
    outputs = model(x).detach()
    return [
        Problem("MSELoss", model, nn.MSELoss(), x, outputs),
        Problem("CrossEntropyLoss", model, nn.CrossEntropyLoss(), x, outputs.softmax(1)),
    ]


def by_flatmin(problem: Problem) -> Iterator[Found]:
    data = (problem.x, problem.y)
    found = flatmin.torch.analyze(problem.model, data, problem.loss, batch_size=1)
    yield Found("trace", "exact", found.sharpness.trace)
    yield Found("lambda_max", "exact", found.sharpness.lambda_max)


def by_curvlinops(problem: Problem) -> Iterator[Found]:
    import scipy.sparse.linalg
    from curvlinops import GGNLinearOperator, hutchpp_trace

    parameters = list(problem.model.parameters())
    matrix = GGNLinearOperator(problem.model, problem.loss, parameters, [(problem.x, problem.y)])
    operator = matrix.to_scipy()
    dense = operator @ np.eye(operator.shape[0])
    yield Found("trace", "dense matrix", float(np.trace(dense)))
    torch.manual_seed(0)
    estimates = [float(hutchpp_trace(matrix, num_matvecs=30)) for _ in range(8)]
    error = float(np.std(estimates, ddof=1) / np.sqrt(len(estimates)))
    yield Found("trace", "Hutch++, 8 × 30 products", float(np.mean(estimates)), error)
    largest = scipy.sparse.linalg.eigsh(operator, k=1, tol=1e-10)[0][0]
    yield Found("lambda_max", "eigsh", float(largest))


def by_pyhessian(problem: Problem) -> Iterator[Found]:
    from pyhessian import hessian

    matrix = hessian(problem.model, problem.loss, data=(problem.x, problem.y), cuda=False)
    torch.manual_seed(0)
    samples = matrix.trace(maxIter=50, tol=0)
    error = float(np.std(samples, ddof=1) / np.sqrt(len(samples)))
    yield Found("trace", f"Hutchinson, {len(samples)} products", float(np.mean(samples)), error)
    tolerance = 1e-7
    values, _ = matrix.eigenvalues(maxIter=5000, tol=tolerance)
    error = 1e-5 * float(values[0])  # its tolerance is no bound; found 2.7e-6 off
    yield Found("lambda_max", f"power iteration, tol {tolerance}", float(values[0]), error)


def by_hessian_eigenthings(problem: Problem) -> Iterator[Found]:
    from hessian_eigenthings import HessianOperator, lanczos, supervised_loss, trace

    data = [(problem.x, problem.y)]
    matrix = HessianOperator(problem.model, data, supervised_loss(problem.loss))
    estimate = trace(matrix, num_matvecs=50, method="hutchinson", seed=0)
    yield Found(
        "trace", "Hutchinson, 50 products", float(estimate.estimate), float(estimate.stderr)
    )
    found = lanczos(matrix, k=1, seed=0, tol=1e-10, max_iter=200)
    yield Found("lambda_max", "Lanczos", float(found.eigenvalues.max()))


def by_neural_tangents(problem: Problem) -> Iterator[Found]:
    """The kernel, and the largest learning rate of gradient descent on ½ the mean of squares."""
    import jax

    jax.config.update("jax_enable_x64", True)
    import neural_tangents

    weights = [p.detach().numpy() for p in problem.model.parameters()]

    def outputs(weights: list, x: Any) -> Any:
        for w, b in zip(weights[0:-2:2], weights[1:-2:2], strict=True):
            x = jax.numpy.tanh(x @ w.T + b)
        return x @ weights[-2].T + weights[-1]

    kernel_of = neural_tangents.empirical_ntk_fn(outputs, trace_axes=())
    kernel = np.asarray(kernel_of(problem.x.numpy(), None, weights))
    if not isinstance(problem.loss, nn.MSELoss):
        return
    n, k = problem.y.shape
    matrix = kernel.transpose(0, 2, 1, 3).reshape(n * k, n * k)
    yield Found("trace", "2/k · trace of the kernel / n", 2 / k * float(np.trace(matrix)) / n)
    rate = float(
        neural_tangents.predict.max_learning_rate(matrix, y_train_size=n * k)
    )  # of ½ the mean over samples and outputs: MSELoss is twice that
    yield Found("lambda_max", "2 / (max_learning_rate / 2)", 2 / (rate / 2))


LIBRARIES: dict[str, Callable[[Problem], Iterator[Found]]] = {
    "flatmin": by_flatmin,
    "curvlinops-for-pytorch": by_curvlinops,
    "PyHessian": by_pyhessian,
    "hessian-eigenthings": by_hessian_eigenthings,
    "neural-tangents": by_neural_tangents,
}


def exact(problem: Problem) -> dict[str, float]:
    """From a loop of backward passes and the second derivatives of the loss, in numpy."""
    parameters = list(problem.model.parameters())
    rows = []
    for value in problem.model(problem.x).reshape(-1):
        grads = torch.autograd.grad(value, parameters, retain_graph=True)
        rows.append(torch.cat([g.reshape(-1) for g in grads]))
    n, k = problem.y.shape
    jacobian = torch.stack(rows).reshape(n, k, -1).detach().numpy()
    if isinstance(problem.loss, nn.MSELoss):
        hessians = np.broadcast_to(2 / k * np.eye(k), (n, k, k))
    else:
        p = problem.y.numpy()
        hessians = p[:, :, None] * np.eye(k) - p[:, :, None] * p[:, None, :]
    matrix = np.einsum("iap,iab,ibq->pq", jacobian, hessians, jacobian, optimize=True) / n
    return {"trace": float(np.trace(matrix)), "lambda_max": float(np.linalg.eigvalsh(matrix)[-1])}


def compare(problem: Problem) -> bool:
    truth = exact(problem)
    count = sum(p.numel() for p in problem.model.parameters())
    print(f"\n{problem.name}: {len(problem.x)} samples × {OUTPUTS} outputs, {count} parameters")
    print(f"exact: trace {truth['trace']:.9g}, lambda_max {truth['lambda_max']:.9g}")
    agree = True
    for library, measure in LIBRARIES.items():
        start = time.perf_counter()
        try:
            for found in measure(problem):
                seconds = time.perf_counter() - start
                off = found.value - truth[found.quantity]
                allowed = 3 * found.error + 1e-6 * abs(truth[found.quantity])
                agree &= abs(off) <= allowed
                error = f", own error {found.error:.2g}" if found.error else ""
                print(
                    f"  {library:24}{found.quantity:11}{found.value:15.9g}  off by "
                    f"{abs(off) / truth[found.quantity]:7.1e} {seconds:8.3f} s  {found.how}{error}"
                    f"{'' if abs(off) <= allowed else '  DIFFERS'}"
                )
                start = time.perf_counter()
        except (ImportError, AttributeError) as error:
            print(f"  {library:24}left out: {str(error).splitlines()[0][:60]}")
    return agree


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--width", type=int, default=32)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    for library in ("torch", *LIBRARIES):
        try:
            print(library, importlib.metadata.version(library), end=", ")
        except importlib.metadata.PackageNotFoundError:
            print(library, "not installed", end=", ")
    print(f"{torch.get_num_threads()} threads")
    every = problems(options.samples, options.width)
    list(by_flatmin(every[0]))  # first calls are slower
    agree = all([compare(problem) for problem in every])
    data = (every[0].x, every[0].y)
    edges = flatmin.torch.analyze(every[0].model, data, batch_size=[1, options.samples])
    one, all_ = (edges.threshold(b).estimate for b in (1, options.samples))
    print(f"\nMSELoss: gradient descent is stable up to {all_:.5g} (max_learning_rate gives this")
    print(f"for another loss), SGD with batches of 1 up to {one:.5g}, {all_ / one:.3g} times less")
    sys.exit(0 if agree else 1)


if __name__ == "__main__":
    main()
