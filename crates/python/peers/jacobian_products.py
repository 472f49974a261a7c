"""The rate of products with a Jacobian and its transpose by torch.func, beside dense products.

    python jacobian_products.py [--samples 4096] [--vectors 16] [--threads 1]

The network is that of `cargo bench -p flatmin-curvature --bench products -- jacobian`: a perceptron
784-256-256-10 with ReLU (p = 269 322), in float64. `vmap` applies one product to all vectors. Each
time is the median of five after a first call, of the processor on one thread and of the clock on
more. Rates count the operations that both programs need: those of the dense products, without the
passes at the parameters.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.func import functional_call, jvp, vjp, vmap

WIDTHS = (784, 256, 256, 10)


def seconds(work: Callable[[], object]) -> float:
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    work()
    times = []
    for _ in range(5):
        start = clock()
        work()
        times.append(clock() - start)
    return statistics.median(times)


def operations(samples: int) -> int:
    """Of one product with J, or of one with its transpose: both need as many.

    Each layer multiplies its input with the vector's weights (or with the derivatives, for Jᵀ), and
    each but the first one propagates through its own weights.
    """
    entries = [a * b for a, b in itertools.pairwise(WIDTHS)]
    return 2 * samples * (sum(entries) + sum(entries[1:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=4096)
    parser.add_argument("--vectors", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    n, count = options.samples, options.vectors
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    layers = [nn.Linear(a, b) for a, b in itertools.pairwise(WIDTHS)]
    hidden = [part for layer in layers[:-1] for part in (layer, nn.ReLU())]
    model = nn.Sequential(*hidden, layers[-1]).double()
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    x = 2 * torch.rand(n, WIDTHS[0]).double() - 1
    tangents = {name: torch.randn(count, *p.shape).double() for name, p in parameters.items()}
    cotangents = torch.randn(count, n, WIDTHS[-1]).double()

    def outputs(values: dict[str, torch.Tensor]) -> torch.Tensor:
        return functional_call(model, values, (x,))

    def forward() -> torch.Tensor:
        return vmap(lambda v: jvp(outputs, (parameters,), (v,))[1])(tangents)

    def backward() -> dict[str, torch.Tensor]:
        pull = vjp(outputs, parameters)[1]
        return vmap(lambda u: pull(u)[0])(cotangents)

    images, back = forward(), backward()
    # ⟨U, J V⟩ = ⟨Jᵀ U, V⟩ vector by vector: both are products with one matrix.
    left = (cotangents * images).sum((1, 2))
    right = sum((back[name] * tangents[name]).flatten(1).sum(1) for name in parameters)
    assert torch.allclose(left, right, rtol=1e-9, atol=1e-9 * float(left.abs().max()))
    a, b = torch.randn(1000, WIDTHS[0]).double(), torch.randn(WIDTHS[0], 256).double()
    dense = 2 * 1000 * WIDTHS[0] * 256 / seconds(lambda: a @ b)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, n = {n}, {count} vectors")
    print(f"dense product 1000 × {WIDTHS[0]} × 256: {dense / 1e9:.1f} GFLOP/s")
    for name, work in (("jvp", forward), ("vjp", backward)):
        time_ = seconds(work)
        rate = count * operations(n) / time_
        print(f"{name}: {time_:.3f} s, {rate / 1e9:.1f} GFLOP/s, {rate / dense:.0%} of dense")


if __name__ == "__main__":
    main()
