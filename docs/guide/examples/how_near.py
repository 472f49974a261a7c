"""How η* changes while a network is trained, beside the distance of the point from its minimum.

Two small networks learn by SGD, one a regression and one a classification with smoothed labels. A row is a
number of steps: the distance is that of `flatmin analyze --residuals --logits`, and η* is relative to that of the
last row.  Needs PyTorch and flatmin:  python how_near.py [SEEDS]
"""

import math
import sys
import warnings

import torch
from torch import nn

import flatmin.torch

STEPS = [0, 100, 300, 1000, 3000, 10_000, 30_000]

warnings.simplefilter("ignore", flatmin.DoubtWarning)
torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)


def problem(kind, seed):
    torch.manual_seed(seed)
    x = torch.randn(60, 10)
    outputs = 1 if kind == "regression" else 3
    model = nn.Sequential(nn.Linear(10, 40), nn.Tanh(), nn.Linear(40, 40), nn.Tanh(), nn.Linear(40, outputs))
    if kind == "regression":
        return model, x, x[:, :1] * x[:, 1:2] + 0.3 * torch.randn(60, 1), nn.MSELoss()
    y = (x[:, :3].abs() + 0.3 * torch.randn(60, 3)).argmax(dim=1)
    return model, x, y, nn.CrossEntropyLoss(label_smoothing=0.1)


def rows(kind, seed):
    model, x, y, loss = problem(kind, seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    done = 0
    for steps in STEPS:
        for _ in range(steps - done):
            batch = torch.randint(60, (16,))
            optimizer.zero_grad()
            loss(model(x[batch]), y[batch]).backward()
            optimizer.step()
        done = steps
        found = flatmin.torch.analyze(model, (x, y), loss, optimizer, batch_size=16)
        point = found.to_dict()["residual_gradients"]
        doubted = any(doubt.kind == "before_the_minimum" for doubt in found.doubts)
        yield steps, point["distance"], found.threshold().estimate, doubted


for kind in ["regression", "classification"]:
    for seed in range(int(sys.argv[1]) if len(sys.argv) > 1 else 1):
        table = list(rows(kind, seed))
        last = table[-1][2]
        print(f"{kind}, seed {seed}\n  steps  distance  η*/η*(end)")
        for steps, distance, edge, doubted in table:
            print(f"{steps:7d}  {distance:8.2g}  {edge / last:10.3f}{'  doubted' if doubted else ''}")
        pairs = [(d, abs(math.log(edge / last))) for _, d, edge, _ in table[:-1]]
        print("  |ln η*/η*(end)| at distances below .2:", " ".join(f"{e:.2g}" for d, e in pairs if d < 0.2), "\n")
