"""Trains a network with three outputs on nn.MSELoss, with two recorded orders of samples.

Reads data.npz, init.npz, order.npy (full batches) and padded.npy (epochs with a short last batch, rows
filled up with -1), and writes end.npz and end_padded.npz, the parameters after all steps. Needs torch and
numpy:  python generate.py
"""

import pathlib

import numpy as np
import torch
from torch import nn

HERE = pathlib.Path(__file__).parent
LEARNING_RATE = 0.05


def end(order):
    """The parameters after a step of plain SGD for each row."""
    data, init = np.load(HERE / "data.npz"), np.load(HERE / "init.npz")
    x, y = torch.tensor(data["x"]), torch.tensor(data["y"])
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 3)).double()
    layers = [model[0], model[2], model[4]]
    with torch.no_grad():
        for l, layer in enumerate(layers, 1):
            layer.weight.copy_(torch.tensor(init[f"w{l}"]))
            layer.bias.copy_(torch.tensor(init[f"b{l}"]))
    optimizer, loss = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE), nn.MSELoss()
    for row in order:
        batch = torch.tensor(row[row >= 0].astype(np.int64))
        optimizer.zero_grad()
        loss(model(x[batch]), y[batch]).backward()
        optimizer.step()
    weights = {f"w{l}": layer.weight.detach().numpy() for l, layer in enumerate(layers, 1)}
    return weights | {f"b{l}": layer.bias.detach().numpy() for l, layer in enumerate(layers, 1)}


def main():
    np.savez(HERE / "end.npz", **end(np.load(HERE / "order.npy")))
    np.savez(HERE / "end_padded.npz", **end(np.load(HERE / "padded.npy")))


if __name__ == "__main__":
    main()
