"""Sharpness of one small PyTorch network at its minimum: exact from its Jacobian, and as other libraries say it.

Every library sees the same network, data and nn.MSELoss, in float64, and is called as its documentation shows.
Those that are not installed are left out:  python compare_curvature.py [SEED]
"""

import copy
import importlib.metadata
import importlib.util
import sys
import warnings

import numpy as np
import torch
from torch import nn

import export_pytorch

warnings.simplefilter("ignore")


def curvlinops(model, loss, x, y):
    import scipy.sparse.linalg
    from curvlinops import GGNLinearOperator, hutchinson_trace, hutchpp_trace, xtrace

    data = [(x, y)]
    ggn = GGNLinearOperator(model, loss, [p for p in model.parameters()], data)
    for name, estimate in [("Hutchinson", hutchinson_trace), ("Hutch++", hutchpp_trace), ("XTrace", xtrace)]:
        yield "trace", f"{name}, 30 products", float(estimate(ggn, num_matvecs=30))
    yield "lambda_max", "eigsh", scipy.sparse.linalg.eigsh(ggn.to_scipy(), k=1)[0][0]


def pyhessian(model, loss, x, y):
    from pyhessian import hessian

    matrix = hessian(model, loss, data=(x, y), cuda=False)
    samples = matrix.trace()
    yield "trace", f"default, {len(samples)} products", np.mean(samples)
    yield "lambda_max", "default", matrix.eigenvalues()[0][0]
    try:
        matrix.density(iter=20)
    except Exception as error:  # what a user would meet
        print(f"  (density: {str(error).splitlines()[0]})")


def hessian_eigenthings(model, loss, x, y):
    from hessian_eigenthings import HessianOperator, lanczos, supervised_loss, trace

    matrix = HessianOperator(model, [(x, y)], supervised_loss(loss))
    estimate = trace(matrix, num_matvecs=30, method="hutchinson", seed=0)
    yield "trace", f"Hutchinson, 30 products, standard error {estimate.stderr:.2g}", estimate.estimate
    yield "trace", "Hutch++, 30 products", trace(matrix, num_matvecs=30, seed=0).estimate
    for k in (1, 5):
        found = lanczos(matrix, k=k, seed=0)
        yield "lambda_max", f"lanczos, k={k}, converged: {bool(found.converged[0])}", found.eigenvalues.max().item()


def backpack(model, loss, x, y):
    from backpack import backpack, extend
    from backpack.extensions import DiagGGNExact

    layers, loss = extend(copy.deepcopy(model.layers)), extend(nn.MSELoss())
    with backpack(DiagGGNExact()):
        loss(layers(x), y.unsqueeze(1)).backward()
    yield "trace", "DiagGGNExact", sum(p.diag_ggn_exact.sum().item() for p in layers.parameters())


def matfree(model, loss, x, y):
    import jax
    from matfree import stochtrace

    jax.config.update("jax_enable_x64", True)
    j = jax.numpy.asarray(export_pytorch.jacobian(model, x)[:, 0])
    sampler = stochtrace.sampler_signs(j[0], num=30)
    estimate = stochtrace.estimator_monte_carlo_mean_and_sem(stochtrace.monte_carlo_trace(), sampler)
    value, error = estimate(lambda v: 2 * j.T @ (j @ v) / len(j), jax.random.key(0))
    yield "trace", f"Monte Carlo, 30 products, standard error {error:.2g}", float(value)


LIBRARIES = {
    "curvlinops-for-pytorch": curvlinops,
    "pyhessian": pyhessian,
    "hessian-eigenthings": hessian_eigenthings,
    "backpack-for-pytorch": backpack,
    "matfree": matfree,
}


def main():
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    model, loss, x, y = export_pytorch.trained_network(seed, export_pytorch.STEPS, export_pytorch.LEARNING_RATE)
    j = export_pytorch.jacobian(model, x)[:, 0]
    eigenvalues = np.linalg.eigvalsh(2 * j @ j.T / len(j))  # nn.MSELoss has no ½: c = 2
    exact = {"trace": eigenvalues.sum(), "lambda_max": eigenvalues[-1]}
    print(f"torch {torch.__version__}, seed {seed}, loss {loss(model(x), y).item():.3g}, Jacobian {j.shape}")
    print(f"exact, (2/n) JᵀJ: trace {exact['trace']:.6f}, lambda_max {exact['lambda_max']:.6f}")
    for package, measure in LIBRARIES.items():
        if importlib.util.find_spec(measure.__name__) is None:
            continue
        print(f"{package} {importlib.metadata.version(package)}")
        torch.manual_seed(seed)
        np.random.seed(seed)
        for quantity, how, value in measure(copy.deepcopy(model), loss, x, y):
            print(f"  {quantity:10} {value:10.6f}  off by {abs(value / exact[quantity] - 1):7.1e}  {how}")


if __name__ == "__main__":
    main()
