"""Trains a small CNN with ten outputs from a DataLoader, and asks flatmin how stable its minimum is.

The loss is nn.MSELoss(), which is also the mean over the outputs, so that --loss-scale is 2/10. The loader
reshuffles every epoch and keeps its short last batch: --sampling reshuffling, without --drop-last.
Needs torch and numpy:  python export_dataloader.py --out DIR
"""

import argparse
import copy
import json
import pathlib
import sys

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import flatmin_command
from jacobian_pytorch import blocks, jacobian

SAMPLES, CLASSES, BATCH_SIZE, LEARNING_RATE, EPOCHS = 30, 10, 8, 1.0, 1000


def images():
    """Noisy images of ten shapes, and one-hot targets."""
    labels = torch.arange(SAMPLES) % CLASSES
    shapes = torch.randn(CLASSES, 1, 8, 8)
    return shapes[labels] + 0.5 * torch.randn(SAMPLES, 1, 8, 8), nn.functional.one_hot(labels).double()


def network():
    return nn.Sequential(nn.Conv2d(1, 8, 3, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(72, CLASSES))


def train(model, loader, learning_rate, epochs):
    loss, optimizer = nn.MSELoss(), torch.optim.SGD(model.parameters(), lr=learning_rate)
    for _ in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            loss(model(x), y).backward()
            optimizer.step()


def pushed(model, loader, learning_rate, epochs):
    """The loss just beside the minimum, the largest one of the epochs that follow, and the last."""
    (x, y), loss = loader.dataset.tensors, nn.MSELoss()
    model = copy.deepcopy(model)
    with torch.no_grad():
        for p in model.parameters():
            p += 1e-5 * torch.randn_like(p)
    losses = [loss(model(x), y).item()]
    for _ in range(epochs):
        train(model, loader, learning_rate, epochs=1)
        losses.append(loss(model(x), y).item())
    return losses[0], max(losses), losses[-1]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, required=True, metavar="DIR", help="where the files go")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    print(f"Python {sys.version.split()[0]}, torch {torch.__version__}, numpy {np.__version__}")

    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    dataset, model = TensorDataset(*images()), network()
    loader = DataLoader(dataset, batch_size=BATCH_SIZE, shuffle=True)
    train(model, loader, LEARNING_RATE, EPOCHS)
    model.eval()
    x, y = dataset.tensors  # every training sample, once
    print(f"trained: {EPOCHS} epochs, learning rate {LEARNING_RATE}, loss {nn.MSELoss()(model(x), y).item():.3g}")

    np.save(options.out / "jacobian.npy", jacobian(model, x))
    np.save(options.out / "residuals.npy", (model(x) - y).detach().numpy())
    (options.out / "blocks.json").write_text(json.dumps(blocks(model)))
    command = f"analyze {options.out}/jacobian.npy --residuals {options.out}/residuals.npy --loss-scale 2/{CLASSES}"
    command += f" --batch-size {BATCH_SIZE} --sampling reshuffling --learning-rate {LEARNING_RATE}"
    answer = flatmin_command.run([*command.split(), "--format", "json"])
    if answer is None:
        return
    threshold = json.loads(answer)["batches"][0]["threshold"]
    print(f"stable up to a learning rate between {threshold['lower']:.4g} and {threshold['upper']:.4g}")
    for learning_rate in (0.95 * threshold["lower"], 1.05 * threshold["upper"]):
        before, largest, after = pushed(model, loader, learning_rate, epochs=300)
        run = f"pushed away, then 300 epochs at {learning_rate:.3f}"
        print(f"{run}: loss {before:.1e}, at most {largest:.1e}, at the end {after:.1e}")


if __name__ == "__main__":
    main()
