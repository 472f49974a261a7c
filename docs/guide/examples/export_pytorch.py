"""Trains a small PyTorch network, exports its Jacobian and asks flatmin how stable its minimum is.

The loss is nn.MSELoss() with its mean reduction and without a ½: twice flatmin's, so that --loss-scale is 2.
Needs torch and numpy:  python export_pytorch.py --out DIR
"""

import sys

import numpy as np
import torch
from torch import nn

import flatmin_command
from jacobian_pytorch import jacobian, trained_parameters

SAMPLES, INPUTS, BATCH_SIZE, STEPS, LEARNING_RATE = 24, 6, 8, 10_000, 0.25


class Network(nn.Module):
    """Any module will do that treats its samples one by one (no batch normalisation in training mode)."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(INPUTS, 24), nn.Tanh(), nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 1))

    def forward(self, x):
        return self.layers(x).squeeze(-1)


class TwoLayerRelu(nn.Module):
    """f(x) = Σ_j a_j relu(w_j·x), the network that `flatmin train` can replay."""

    def __init__(self, width=40):
        super().__init__()
        self.w = nn.Parameter(torch.randn(width, INPUTS) / INPUTS**0.5)
        self.a = nn.Parameter(torch.randn(width) / width**0.5)

    def forward(self, x):
        return torch.relu(x @ self.w.T) @ self.a


def train(model, loss, x, y, order, learning_rate):
    """Plain SGD; every row of `order` holds the samples of one step."""
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate)
    for batch in order:
        optimizer.zero_grad()
        loss(model(x[batch]), y[batch]).backward()
        optimizer.step()


def record_replay(options):
    """Trains the network that flatmin knows with flatmin's loss, and has `flatmin train` repeat it step by step."""
    torch.manual_seed(options.seed)
    model, x = TwoLayerRelu(), torch.randn(SAMPLES, INPUTS)
    y = torch.sin(x.sum(dim=1))
    order = torch.stack([torch.randperm(SAMPLES)[:BATCH_SIZE] for _ in range(1000)])
    w, a = (p.detach().clone().numpy() for p in model.parameters())
    flatmin_command.save_replay(options.out, x=x, y=y, w=w, a=a, order=order, learning_rate=0.05)
    train(model, lambda output, target: nn.functional.mse_loss(output, target) / 2, x, y, order, 0.05)
    w, a = (p.detach().numpy() for p in model.parameters())
    flatmin_command.replay(options.out, w=w, a=a, do_run=not options.no_analyze)


def trained_network(seed, steps, learning_rate):
    """The network at its minimum, the loss it was trained with, and the samples."""
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(seed)
    x = torch.randn(SAMPLES, INPUTS)
    y = torch.sin(x @ torch.randn(INPUTS))
    order = torch.stack([torch.randperm(SAMPLES)[:BATCH_SIZE] for _ in range(steps)])
    model, loss = Network(), nn.MSELoss()
    train(model, loss, x, y, order, learning_rate)
    return model.eval(), loss, x, y


def main():
    options = flatmin_command.arguments(__doc__.splitlines()[0], learning_rate=LEARNING_RATE, steps=STEPS)
    print(f"Python {sys.version.split()[0]}, torch {torch.__version__}, numpy {np.__version__}, seed {options.seed}")

    model, loss, x, y = trained_network(options.seed, options.steps, options.learning_rate)
    flatmin_command.report_training(options, BATCH_SIZE, loss(model(x), y).item())

    j = jacobian(model, x)
    print(f"Jacobian: {' × '.join(map(str, j.shape))}, trace of JᵀJ/n {np.sum(j**2) / SAMPLES:.6g}")
    report = flatmin_command.analyze(
        flatmin_command.save_jacobian(options.out, j, options.format),
        flatmin_command.save_blocks(options.out, {name: p.numel() for name, p in trained_parameters(model).items()}),
        batch_sizes=[1, BATCH_SIZE],
        learning_rate=options.learning_rate,
        loss_scale=2.0,  # nn.MSELoss; with k outputs it is 2/k, since the mean runs over the outputs too
        do_run=not options.no_analyze,
    )
    if report is not None:
        print(flatmin_command.conclusion(report, trained_with=BATCH_SIZE))
    if options.replay:
        record_replay(options)


if __name__ == "__main__":
    main()
