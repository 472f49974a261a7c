"""Time and memory of the Gram matrix of a ResNet-20 with group normalisation, n = 200, k = 10.

    python resnet_gram.py flatmin|torchjd|vmap [--samples 200] [--side 32]

Each way runs in a process of its own, whose peak memory is then that of the way. TorchJD sums in
float32, like `vmap(jacrev)` with one product of float32 at the end; flatmin sums in float64.
"""

from __future__ import annotations

import argparse
import json
import resource
import threading
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.GroupNorm(outputs // 8, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.GroupNorm(outputs // 8, outputs)
        self.shortcut = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(h)) + self.shortcut(x))


def resnet20(classes: int = 10) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = [
        nn.Conv2d(3, 16, 3, 1, 1, bias=False),
        nn.GroupNorm(2, 16),
        nn.ReLU(),
    ]
    width = 16
    for outputs, stride in [(16, 1)] * 3 + [(32, 2)] + [(32, 1)] * 2 + [(64, 2)] + [(64, 1)] * 2:
        layers.append(Block(width, outputs, stride))
        width = outputs
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, classes)]
    return nn.Sequential(*layers).eval()


def by_flatmin(model: nn.Module, x: torch.Tensor) -> np.ndarray:
    import flatmin.torch

    return flatmin.torch.gram(model, x)


def by_torchjd(model: nn.Module, x: torch.Tensor) -> np.ndarray:
    from torchjd.autogram import Engine

    engine = Engine(model, batch_dim=0)
    return engine.compute_gramian(model(x)).detach().double().numpy()


def by_vmap(model: nn.Module, x: torch.Tensor) -> np.ndarray:
    from torch.func import functional_call, jacrev, vmap

    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def outputs(parameters: dict, sample: torch.Tensor) -> torch.Tensor:
        return functional_call(model, parameters, (sample.unsqueeze(0),)).reshape(-1)

    by_name = vmap(jacrev(outputs), in_dims=(None, 0), chunk_size=8)(parameters, x)
    rows = torch.cat([j.flatten(2) for j in by_name.values()], dim=2).flatten(0, 1)
    return (rows @ rows.T).double().numpy()


WAYS = {"flatmin": by_flatmin, "torchjd": by_torchjd, "vmap": by_vmap}


def resident() -> float:
    """Resident memory of this process in GiB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--side", type=int, default=32)
    options = parser.parse_args()
    model = resnet20()
    x = torch.randn(options.samples, 3, options.side, options.side)
    WAYS[options.way](model, x[:7])  # imports and first calls
    before, peak, done = resident(), [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            peak[0] = max(peak[0], resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    start, cpu = time.perf_counter(), time.process_time()
    gram = WAYS[options.way](model, x)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    done.set()
    watcher.join()
    found = {
        "way": options.way,
        "parameters": sum(p.numel() for p in model.parameters()),
        "rows": len(gram),
        "seconds": round(seconds, 2),
        "of the processor": round(cpu, 2),
        "GiB beyond the start": round(peak[0] - before, 3),
        "trace": float(np.trace(gram.reshape(len(x) * 10, -1))),
        "lambda_max": float(np.linalg.eigvalsh(gram.reshape(len(x) * 10, -1)).max()),
        "lambda_min": float(np.linalg.eigvalsh(gram.reshape(len(x) * 10, -1)).min()),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
