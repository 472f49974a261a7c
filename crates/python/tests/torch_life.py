"""Training that starts beside a minimum stays below the edge of the one-liner, and leaves above.

    python torch_life.py [--seeds 16]

Each row takes a small network at an exact minimum, asks `flatmin.torch.analyze` for η* with the
objects that training uses, and then lets the optimizer of PyTorch run from a distance of 1e-7, at
0.9 and beyond 1 times η*. All seeds train at once: their parameters are stacked, on which an
optimizer acts entry by entry. A row shows medians of how much the distance of the outputs from
those of the minimum has changed.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

import flatmin.torch

SAMPLES, INPUTS, WIDTH, PERTURBATION = 12, 24, 16, 1e-7
SMOOTHING = 0.1
ALMOST_ONE = 1 - 1e-15  # β₂ of a second moment that stays as it is


@dataclass(frozen=True)
class Case:
    """A training loop: loss, optimizer and batches."""

    loss: str
    batch_size: int
    sampling: str = "without_replacement"
    make: Callable[..., torch.optim.Optimizer] = torch.optim.SGD
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        words = [self.loss, self.make.__name__]
        words += [f"{key}={value}" for key, value in self.settings.items()]
        words += [] if self.sampling == "without_replacement" else [self.sampling]
        return ", ".join([*words, f"B = {self.batch_size}"])


def network(outputs: int) -> nn.Module:
    torch.manual_seed(1)
    layers = nn.Sequential(nn.Linear(INPUTS, WIDTH), nn.Tanh(), nn.Linear(WIDTH, outputs))
    return layers.double()


def problem(loss: str) -> tuple[nn.Module, nn.Module, Tensor, Tensor]:
    """A network, a loss, and data for which the network is a minimum: its own outputs."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(SAMPLES, INPUTS, generator=generator).double()
    x = nn.functional.normalize(x) * INPUTS**0.5
    if loss == "mse":
        model = network(1)
        return model, nn.MSELoss(), x, model(x).detach()
    if loss == "mse, 2 outputs":
        model = network(2)
        return model, nn.MSELoss(), x, model(x).detach()
    model = network(3)
    wanted = model(x).detach().softmax(dim=1)
    # Labels that label smoothing turns into the probabilities of the network.
    labels = (wanted - SMOOTHING / 3) / (1 - SMOOTHING)
    assert bool((labels > 0).all())
    return model, nn.CrossEntropyLoss(label_smoothing=SMOOTHING), x, labels


class Shifted(nn.Module):
    """Weights as differences to the minimum, so that weight decay is towards the minimum."""

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.register_buffer("start", start.detach().clone())

    def forward(self, difference: Tensor) -> Tensor:
        return self.start + difference

    def right_inverse(self, value: Tensor) -> Tensor:
        return value - self.start


def shifted(model: nn.Module) -> nn.Module:
    for layer in [m for m in model.modules() if isinstance(m, nn.Linear)]:
        for name in ("weight", "bias"):
            shift = Shifted(getattr(layer, name))
            nn.utils.parametrize.register_parametrization(layer, name, shift)
    return model


def freeze(optimizer: torch.optim.Optimizer, parameters: list[Tensor], *, stacked: bool) -> None:
    """Gives Adam second moments that stay as they are, different for each parameter."""
    if not isinstance(optimizer, torch.optim.Adam):
        return
    generator = torch.Generator().manual_seed(11)
    for p in parameters:
        shape = p.shape[1:] if stacked else p.shape
        moment = torch.rand(shape, generator=generator).double() + 0.1
        optimizer.state[p] = {
            "step": torch.tensor(1e15),
            "exp_avg": torch.zeros_like(p),
            "exp_avg_sq": moment.expand_as(p).clone(),
        }


def batches(case: Case, seeds: int, generator: torch.Generator):
    """seeds × B samples of each step."""
    size, n = case.batch_size, SAMPLES
    while True:
        if case.sampling == "without_replacement":
            yield torch.rand(seeds, n, generator=generator).argsort(dim=1)[:, :size]
        elif case.sampling == "with_replacement":
            yield torch.randint(0, n, (seeds, size), generator=generator)
        else:
            order = torch.rand(seeds, n, generator=generator).argsort(dim=1)
            for start in range(0, n, size):
                yield order[:, start : start + size]


def change(case: Case, learning_rate: float, seeds: int, far: float = 100.0) -> float:
    """Median of the distance after training over that before.

    A run ends where this is a factor of `far` either way, or after 6000 steps.
    """
    model, loss, x, y = problem(case.loss)
    model = shifted(model)
    names = [name for name, _ in model.named_parameters()]
    generator = torch.Generator().manual_seed(7)
    rows = torch.from_numpy(flatmin.torch.jacobian(model, x)).reshape(-1, _size(model))
    start = torch.randn(seeds, len(rows), generator=generator).double() @ rows
    start *= PERTURBATION / start.norm(dim=1, keepdim=True)
    sizes = [p.numel() for p in model.parameters()]
    stacked = {
        name: part.reshape(seeds, *p.shape).clone().requires_grad_()
        for (name, p), part in zip(model.named_parameters(), start.split(sizes, 1), strict=True)
    }
    least = model(x).detach()
    optimizer = case.make([stacked[name] for name in names], lr=learning_rate, **case.settings)
    freeze(optimizer, [stacked[name] for name in names], stacked=True)

    def outputs(parameters: dict[str, Tensor], inputs: Tensor) -> Tensor:
        return functional_call(model, parameters, (inputs,))

    def distance() -> Tensor:
        with torch.no_grad():
            found = vmap(outputs, (0, None))(stacked, x) - least
            found = found - found.mean(dim=2, keepdim=True) if case.loss == "smoothed" else found
            return found.flatten(1).norm(dim=1)

    before = distance()
    drawn = batches(case, seeds, generator)
    for step in range(6000):
        batch = next(drawn)
        optimizer.zero_grad()
        found = vmap(outputs)(stacked, x[batch])
        losses = [loss(found[s], y[batch[s]]) for s in range(seeds)]
        torch.stack(losses).sum().backward()
        optimizer.step()
        if step % 20 == 19:
            factor = float((distance() / before).median())
            if not 1 / far < factor < far:
                return factor
    return float((distance() / before).median())


def _size(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def edge(case: Case) -> float:
    """η* of the one-liner, from the objects of training."""
    model, loss, x, y = problem(case.loss)
    model = shifted(model)
    optimizer = case.make(model.parameters(), lr=0.1, **case.settings)
    freeze(optimizer, list(model.parameters()), stacked=False)
    found = flatmin.torch.analyze(
        model, (x, y), loss, optimizer, batch_size=case.batch_size, sampling=case.sampling
    )
    return found.threshold().estimate


def cases() -> list[Case]:
    made = []
    for loss in ("mse", "smoothed"):
        for batch_size in (1, 8):
            for settings in (
                {},
                {"momentum": 0.9},
                {"momentum": 0.9, "nesterov": True},
                {"momentum": 0.5, "dampening": 0.5},
                {"weight_decay": 0.05},
            ):
                made.append(Case(loss, batch_size, settings=settings))
    frozen = {"betas": (0.9, ALMOST_ONE)}
    made.append(Case("mse", 8, make=torch.optim.Adam, settings=frozen))
    made.append(Case("smoothed", 4, make=torch.optim.AdamW, settings=frozen | {"weight_decay": 1}))
    made.append(Case("mse, 2 outputs", 8))
    made.append(Case("mse", 8, sampling="reshuffling"))
    made.append(Case("mse", 4, sampling="with_replacement"))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=16)
    seeds = parser.parse_args().seeds
    warnings.simplefilter("ignore")
    print("| loop | η* | at 0.9 η* | at 1.1 η* | at 1.3 η* |")
    print("|---|---|---|---|---|")
    for case in cases():
        rate = edge(case)
        found = [change(case, factor * rate, seeds) for factor in (0.9, 1.1, 1.3)]
        print(
            f"| {case.name} | {rate:.4g} |", " | ".join(f"{f:.0e}" for f in found), "|", flush=True
        )


if __name__ == "__main__":
    main()
