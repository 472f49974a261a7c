"""What `flatmin.torch.Monitor` costs while a ResNet-20 trains on a CPU, every 500 steps.

    python monitor_overhead.py [--batch 128] [--steps 6]

Measures the time of a step of training and that of a measurement, with the defaults of the monitor
(256 samples, fewer where samples × outputs exceed 640), and prints
their ratio. Times are those of the processor on one thread, which other programs of the machine
disturb little.
"""

from __future__ import annotations

import argparse
import time

import torch
from resnet_gram import resnet20
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import flatmin.torch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=6)
    options = parser.parse_args()
    torch.set_num_threads(1)  # and OMP_NUM_THREADS=1 for numpy
    torch.manual_seed(0)
    model = resnet20().train()
    x, y = torch.randn(2000, 3, 32, 32), torch.randint(0, 10, (2000,))
    loader = DataLoader(TensorDataset(x, y), options.batch, shuffle=True)
    loss = nn.CrossEntropyLoss(label_smoothing=0.1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    monitor = flatmin.torch.Monitor(model, loader, loss, optimizer, every=500)
    taken = []
    for step, (inputs, targets) in enumerate(loader):
        start = time.process_time()
        optimizer.zero_grad()
        loss(model(inputs), targets).backward()
        optimizer.step()
        monitor.step()
        if step:
            taken.append(time.process_time() - start)
        if step == options.steps:
            break
    step = sorted(taken)[len(taken) // 2]
    monitor.measure()  # the first call is slower
    start = time.process_time()
    record = monitor.measure()
    spent = time.process_time() - start
    print({name: v if isinstance(v, (bool, int)) else f"{v:.4g}" for name, v in record.items()})
    share = spent / (500 * step)
    print(f"step {step:.3f} s, measurement {spent:.1f} s: {100 * share:.1f} % of 500 steps")


if __name__ == "__main__":
    main()
