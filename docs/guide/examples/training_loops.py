"""Checks the flags of the guide "Which flags for my training loop" against the optimizers of PyTorch.

Each row trains a small network to a stationary point of the full loss, in float64, and asks flatmin for η*. Then the
optimizer itself starts a distance of 1e-7 away, at .9 η* and at 1.1 η*, with 8 seeds each, and the row shows by how
much the distance has changed: medians. Where the median run does not leave at 1.1 η*, it is tried at 1.3 η* too. The
perturbation is a random combination of the samples' steps, since in all other directions the loss is constant and
nothing returns.

With weight decay the stationary point is not one of zero loss, and SGD keeps fluctuating around it. There the
distance is that between two runs with the same batches, of which one starts at the stationary point. The rows
"anchored" decay towards the trained weights instead of zero, so that the decay vanishes at the minimum.

Needs torch and numpy:  python training_loops.py --out DIR
"""

import argparse
import copy
import json
import pathlib
import statistics
import sys
from dataclasses import dataclass, field
from typing import Callable

import numpy as np
import torch
from torch import nn
from torch.func import functional_call, hessian, jacrev, vmap
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

import flatmin_command

SAMPLES, INPUTS, WIDTH, PERTURBATION, SEEDS = 16, 20, 16, 1e-7, 8
ALMOST_ONE = 1 - 1e-15  # β₂ of a second moment that stays as it is
SMOOTHING = 0.1


@dataclass
class Row:
    """One training loop, and the flags that describe it."""

    name: str
    flags: list[str]
    optimizer: Callable  # (parameters, learning rate, D or None) → optimizer
    batch_size: int = 4
    problem: str = "mse"
    batches: str = "distinct"
    decay: float = 0.0  # towards zero, at the stationary point of the decayed loss
    anchored: bool = False
    preconditioned: bool = False
    seed: int = 1  # of the network
    steps: int = 6000


def distinct(n, size, generator):
    """Independent batches, drawn without replacement."""
    while True:
        yield torch.randperm(n, generator=generator)[:size]


def poisson(n, size, generator):
    """Every sample with probability B/n, as Opacus draws them."""
    while True:
        yield torch.nonzero(torch.rand(n, generator=generator) < size / n).flatten()


def loader(n, size, generator, **options):
    """The batches of a DataLoader, epoch after epoch."""
    batches = DataLoader(TensorDataset(torch.arange(n)), batch_size=size, generator=generator, **options)
    while True:
        for (batch,) in batches:
            yield batch


def reshuffled(n, size, generator):
    return loader(n, size, generator, shuffle=True)


def reshuffled_drop_last(n, size, generator):
    return loader(n, size, generator, shuffle=True, drop_last=True)


def replaced(n, size, generator):
    sampler = RandomSampler(range(n), replacement=True, num_samples=1000 * size, generator=generator)
    return loader(n, size, generator, sampler=sampler)


SAMPLERS = {f.__name__: f for f in [distinct, poisson, reshuffled, reshuffled_drop_last, replaced]}


@dataclass
class Problem:
    """Samples, the loss of PyTorch, the outputs at which it is least, and the arrays that flatmin needs."""

    outputs: int
    loss: nn.Module
    x: torch.Tensor
    y: torch.Tensor
    least: torch.Tensor  # n × k
    flags: list[str]
    arrays: dict = field(default_factory=dict)


def problem(kind):
    """The data are random; each loss is attained at its lower bound for some outputs."""
    generator = torch.Generator().manual_seed(0)
    x = nn.functional.normalize(torch.randn(SAMPLES, INPUTS, generator=generator)) * INPUTS**0.5
    teacher = torch.randn(INPUTS, 3, generator=generator)
    y = torch.sin(x @ teacher / INPUTS**0.5)
    if kind == "mse":
        return Problem(1, nn.MSELoss(), x, y[:, :1], y[:, :1], ["--loss-scale", "2"])
    if kind == "mse-3":
        return Problem(3, nn.MSELoss(), x, y, y, ["--loss-scale", repr(2 / 3)])
    if kind == "huber":  # quadratic around its minimum, where its Hessian is one
        arrays = {"output_hessian": np.ones((SAMPLES, 1, 1))}
        flags = ["--loss", "custom", "--output-hessian", "output_hessian"]
        return Problem(1, nn.HuberLoss(delta=0.5), x, y[:, :1], y[:, :1], flags, arrays)
    if kind == "binary":
        labels = 0.5 + 0.4 * y[:, :1]
        flags = ["--loss", "binary-cross-entropy", "--logits", "logits"]
        return Problem(1, nn.BCEWithLogitsLoss(), x, labels, torch.logit(labels), flags)
    labels = y.argmax(dim=1)
    smoothed = nn.functional.one_hot(labels, 3) * (1 - SMOOTHING) + SMOOTHING / 3
    least = smoothed.log() - smoothed.log().mean(dim=1, keepdim=True)
    flags = ["--loss", "cross-entropy", "--logits", "logits"]
    return Problem(3, nn.CrossEntropyLoss(label_smoothing=SMOOTHING), x, labels, least, flags)


class Anchored(nn.Module):
    """A network whose parameters are the differences to trained weights, so that weight decay is towards those."""

    def __init__(self, network):
        super().__init__()
        self.network = [network]  # in a list, so that its weights are not parameters of this module
        self.start = {name: p.detach().clone() for name, p in network.named_parameters()}
        self.names = list(self.start)
        self.differences = nn.ParameterList(torch.zeros_like(p) for p in self.start.values())

    def forward(self, x):
        moved = {name: self.start[name] + d for name, d in zip(self.names, self.differences)}
        return functional_call(self.network[0], moved, (x,))


def network(outputs, seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(INPUTS, WIDTH), nn.Tanh(), nn.Linear(WIDTH, outputs))


def jacobian(model, x):
    """The n × k × p array of ∂f(x_i)/∂θ, the columns in the order of model.named_parameters()."""
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def output(parameters, sample):
        return functional_call(model, parameters, (sample.unsqueeze(0),)).squeeze(0)

    by_name = vmap(jacrev(output), in_dims=(None, 0))(parameters, x)
    return torch.cat([by_name[name].flatten(start_dim=2) for name in parameters], dim=2)


def flat(model):
    return nn.utils.parameters_to_vector(model.parameters()).detach()


def assign(model, vector):
    nn.utils.vector_to_parameters(vector, model.parameters())


def train(model, p, row):
    """AdamW with the default β₂; returns its √v̂ + ε, as one vector."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=row.decay)
    batches = distinct(SAMPLES, 4, torch.Generator().manual_seed(2))
    for step in range(300):
        batch = next(batches)
        optimizer.zero_grad()
        p.loss(model(p.x[batch]), p.y[batch]).backward()
        optimizer.step()
    state = [optimizer.state[parameter]["exp_avg_sq"] for parameter in model.parameters()]
    return torch.cat([v.flatten() for v in state]).div(1 - 0.999**300).sqrt() + 1e-8


def polish(model, p, decay, metric):
    """Goes on to where ∇(loss + ½ decay θᵀDθ) vanishes, and returns how large that is there."""
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}

    def objective(vector):
        parts = vector.split([shape.numel() for shape in shapes.values()])
        parameters = {name: part.reshape(shape) for (name, shape), part in zip(shapes.items(), parts)}
        return p.loss(functional_call(model, parameters, (p.x,)), p.y) + decay / 2 * (metric * vector**2).sum()

    vector = flat(model)
    if decay == 0:  # Gauss–Newton steps to the outputs at which the loss is least
        for _ in range(30):
            assign(model, vector)
            missing = model(p.x).detach() - p.least
            if p.outputs > 1 and not isinstance(p.loss, nn.MSELoss):  # softmax does not see a common shift
                missing -= missing.mean(dim=1, keepdim=True)
            vector = vector - torch.linalg.lstsq(
                jacobian(model, p.x).flatten(0, 1), missing.flatten(), rcond=1e-12, driver="gelsd"
            ).solution
    else:
        vector.requires_grad_()
        limits = dict(max_iter=3000, tolerance_grad=1e-13, tolerance_change=0, history_size=100)
        search = torch.optim.LBFGS([vector], **limits, line_search_fn="strong_wolfe")

        def closure():
            search.zero_grad()
            value = objective(vector)
            value.backward()
            return value

        search.step(closure)
        vector = vector.detach()
        slope, damping = torch.func.grad(objective), 1e-6
        for _ in range(1000):  # damped Newton steps, downhill also where the curvature is negative
            curvature, axes = torch.linalg.eigh(hessian(objective)(vector))
            step = axes @ ((axes.T @ slope(vector)) / (curvature.abs() + damping))
            lower = objective(vector - step) <= objective(vector) + 1e-16
            vector, damping = (vector - step, damping / 5) if lower else (vector, damping * 5)
            if slope(vector).norm() < 1e-15 and step.norm() < 1e-9:
                break
        least = torch.linalg.eigvalsh(hessian(objective)(vector))[0]
        assert least > 0, f"not a minimum: smallest curvature {least:.1e}"
    assign(model, vector)
    return torch.func.grad(objective)(vector).norm().item()


def frozen(optimizer, model, key, second_moment):
    """Puts a second moment into the state of Adam, AdamW or RMSprop as if many steps had led to it."""
    sizes = [parameter.numel() for parameter in model.parameters()]
    for parameter, v in zip(model.parameters(), second_moment.split(sizes)):
        optimizer.state[parameter] = {
            "step": torch.tensor(1e9, dtype=torch.float64),
            key: v.reshape(parameter.shape).clone(),
        }
        if key == "exp_avg_sq":
            # Adam divides by 1 − β₂^step, which is 1e-6 here and does not change within some thousand steps.
            optimizer.state[parameter][key] *= 1 - ALMOST_ONE**1e9
            optimizer.state[parameter]["exp_avg"] = torch.zeros_like(parameter)


def sgd(**options):
    return lambda model, rate, d: torch.optim.SGD(model.parameters(), lr=rate, **options)


def adam(kind, **options):
    def build(model, rate, d):
        optimizer = kind(model.parameters(), lr=rate, betas=(0.9, ALMOST_ONE), **options)
        frozen(optimizer, model, "exp_avg_sq", (d - 1e-8) ** 2)
        return optimizer

    return build


def rmsprop(**options):
    def build(model, rate, d):
        optimizer = torch.optim.RMSprop(model.parameters(), lr=rate, alpha=ALMOST_ONE, **options)
        frozen(optimizer, model, "square_avg", (d - 1e-8) ** 2)
        if options.get("momentum"):
            for parameter in model.parameters():
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        return optimizer

    return build


def steps(model, p, row, rate, d, batches):
    """The optimizer, step by step."""
    optimizer = row.optimizer(model, rate, d)
    for batch in batches:
        optimizer.zero_grad()
        if row.batches == "poisson":  # the sum over the batch, by the expected size
            total = sum(p.loss(model(p.x[i : i + 1]), p.y[i : i + 1]) for i in batch)
            if len(batch):
                (total / row.batch_size).backward()
            else:
                (0 * model(p.x[:1]).sum()).backward()
        else:
            p.loss(model(p.x[batch]), p.y[batch]).backward()
        optimizer.step()
        yield


def factor(model, p, row, rate, d, directions, seed):
    """By what the distance to the stationary point has changed after `row.steps` steps, or at 1e±3."""
    generator = torch.Generator().manual_seed(seed)
    kick = directions @ torch.randn(directions.shape[1], generator=generator)
    kick *= PERTURBATION / kick.norm()
    start, moved = flat(model), copy.deepcopy(model)
    assign(moved, start + kick)
    batches = SAMPLERS[row.batches](SAMPLES, row.batch_size, generator)
    drawn = [next(batches) for _ in range(row.steps)]
    run = steps(moved, p, row, rate, d, drawn)
    still = copy.deepcopy(model)
    rest = steps(still, p, row, rate, d, drawn) if row.decay else drawn
    for step, _ in enumerate(zip(run, rest)):
        ratio = ((flat(moved) - flat(still)).norm() / PERTURBATION).item() if step % 8 == 0 else ratio
        if not 1e-3 < ratio < 1e3:
            break
    return ratio


NESTEROV = ["--momentum", "0.9", "--nesterov"]
FROZEN = ["--preconditioner", "preconditioner"]
ADAM = [*FROZEN, "--momentum", "0.9", "--dampening", "0.9"]
DECAY, STRONG = ["--momentum", "0.9", "--weight-decay", "5e-4"], ["--momentum", "0.9", "--weight-decay", "5"]
DECOUPLED = [*ADAM, "--decoupled-weight-decay"]
SHUFFLED = ["--sampling", "reshuffling"]


def adamw(decay):
    return adam(torch.optim.AdamW, weight_decay=decay)


ROWS = [
    Row("SGD", [], sgd()),
    Row("SGD, momentum", ["--momentum", "0.9"], sgd(momentum=0.9)),
    Row("SGD, momentum", ["--momentum", "0.9"], sgd(momentum=0.9), 12),
    Row("SGD, dampening .5", ["--momentum", "0.9", "--dampening", "0.5"], sgd(momentum=0.9, dampening=0.5), 12),
    Row("SGD, Nesterov", NESTEROV, sgd(momentum=0.9, nesterov=True)),
    Row("SGD, Nesterov", NESTEROV, sgd(momentum=0.9, nesterov=True), 12),
    Row("SGD, weight decay 5e-4", DECAY, sgd(momentum=0.9, weight_decay=5e-4), 12, decay=5e-4),
    Row("SGD, weight decay 5e-4", DECAY, sgd(momentum=0.9, weight_decay=5e-4), 14, decay=5e-4),
    Row("SGD, weight decay 5, anchored", STRONG, sgd(momentum=0.9, weight_decay=5.0), 12, anchored=True),
    Row("Adam, frozen", ADAM, adam(torch.optim.Adam), 12, preconditioned=True),
    Row("AdamW, frozen", [*DECOUPLED, "0.01"], adamw(0.01), 12, decay=0.01, preconditioned=True),
    Row("AdamW 20, frozen, anchored", [*DECOUPLED, "20"], adamw(20.0), 12, anchored=True, preconditioned=True),
    Row("RMSprop, frozen", FROZEN, rmsprop(), preconditioned=True),
    Row("RMSprop, momentum, frozen", [*FROZEN, "--momentum", "0.9"], rmsprop(momentum=0.9), 12, preconditioned=True),
    *(Row("CrossEntropyLoss, smoothing .1", [], sgd(), size, "cross-entropy", seed=3) for size in [1, 4, 8]),
    Row("CrossEntropyLoss, another network", [], sgd(), 8, "cross-entropy"),
    Row("BCEWithLogitsLoss, soft labels", [], sgd(), problem="binary"),
    Row("HuberLoss", [], sgd(), problem="huber"),
    Row("MSELoss, 3 outputs", [], sgd(), problem="mse-3"),
    Row("shuffle=True", SHUFFLED, sgd(), 5, batches="reshuffled"),
    Row("shuffle=True", SHUFFLED, sgd(), 12, batches="reshuffled"),
    Row("shuffle=True, drop_last=True", [*SHUFFLED, "--drop-last"], sgd(), 5, batches="reshuffled_drop_last"),
    Row("RandomSampler(replacement=True)", ["--sampling", "with-replacement"], sgd(), batches="replaced"),
    Row("Poisson batches", ["--sampling", "poisson"], sgd(), batches="poisson"),
]


def edges(path, row, flags):
    """η* and, where flatmin gives it, the upper end of the almost-sure edge."""
    almost_sure = ["--almost-sure"] if row.problem not in ["cross-entropy", "mse-3"] else []
    command = ["analyze", str(path), "--batch-size", str(row.batch_size), *flags, *almost_sure]
    output = flatmin_command.run([*command, "--format", "json"])
    if output is None:
        sys.exit("this script needs flatmin")
    (batch,) = json.loads(output)["batches"]
    threshold, almost_sure = batch["threshold"], batch["almost_sure_edge"]
    return float(threshold.get("estimate") or threshold["lower"]), almost_sure and float(almost_sure["upper"])


def run(row, out):
    """One row: the network, flatmin's answer, the runs."""
    p = problem(row.problem)
    model = network(p.outputs, row.seed)
    d = train(model, p, row)
    metric = d if row.preconditioned else torch.ones_like(d)
    gradient = polish(model, p, row.decay, metric)
    if row.anchored:
        model = Anchored(model)
    assert gradient < 1e-12, gradient

    j = jacobian(model, p.x)
    logits = model(p.x).detach()
    path = out / f"{len(list(out.iterdir())):02}.npz"
    arrays = {"jacobian": j.squeeze(1).numpy(), "logits": logits.squeeze(1).numpy(), "preconditioner": d.numpy()}
    np.savez(path, **arrays, **p.arrays)
    plain, _ = edges(path, row, p.flags)
    edge, almost_sure = edges(path, row, [*p.flags, *row.flags])

    if row.problem == "cross-entropy":  # a common shift of the logits changes nothing
        j = j - j.mean(dim=1, keepdim=True)
    directions = (j.flatten(0, 1) / metric).T
    cells = [row.name, str(row.batch_size), f"{plain:.4g}", f"{edge:.4g}"]
    cells.append("" if almost_sure is None else f"{almost_sure / edge:.2f}")
    for times in [0.9, 1.1, 1.3]:
        factors = [factor(model, p, row, times * edge, d, directions, 100 + seed) for seed in range(SEEDS)]
        cells.append(f"{statistics.median(factors):.0e}, {sum(f > 1 for f in factors)} of {SEEDS} left")
        if times == 1.1 and statistics.median(factors) > 1e2:
            cells.append("")
            break
    cells.append(f"{gradient:.0e}")
    print(f"| {' | '.join(cells)} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, required=True, metavar="DIR", help="where the files go")
    parser.add_argument("--only", default="", help="rows whose name contains this")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    print(f"Python {sys.version.split()[0]}, torch {torch.__version__}, numpy {np.__version__}")
    print("loop | B | η* of plain SGD | η* | almost-sure edge / η* | .9 η* | 1.1 η* | 1.3 η* | gradient")
    for row in ROWS:
        if options.only in row.name:
            run(row, options.out)


if __name__ == "__main__":
    main()
