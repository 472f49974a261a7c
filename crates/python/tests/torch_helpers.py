"""Plain autograd loops, and models that the tests of `flatmin.torch` share."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

torch.set_num_threads(1)  # the tensors of tests are small, and threads would wait for each other


def plain_jacobian(model, *inputs, output=lambda result: result, **named):
    """n × k × p by a backward pass for each output of each sample, nothing else."""
    trained = [p for p in model.parameters() if p.requires_grad]
    rows = []
    for i in range(len([*inputs, *named.values()][0])):
        sample = [x[i : i + 1] for x in inputs]
        found = output(model(*sample, **{key: x[i : i + 1] for key, x in named.items()}))
        for value in found.reshape(-1):
            grads = torch.autograd.grad(value, trained, retain_graph=True, allow_unused=True)
            grads = [
                torch.zeros_like(p) if g is None else g for p, g in zip(trained, grads, strict=True)
            ]
            rows.append(torch.cat([g.reshape(-1) for g in grads]))
    stacked = torch.stack(rows).detach().double().numpy()
    return stacked.reshape(i + 1, -1, stacked.shape[1])


def plain_gram(jacobian):
    """JJᵀ with rows sample by sample."""
    rows = np.asarray(jacobian, dtype=np.float64).reshape(-1, jacobian.shape[-1])
    return rows @ rows.T


def randomized(model):
    """Normalisation layers with statistics and weights that are not the initial ones."""
    with torch.no_grad():
        for module in model.modules():
            for name in ("running_mean", "weight", "bias"):
                value = getattr(module, name, None)
                is_norm = "Norm" in type(module).__name__
                if is_norm and isinstance(value, torch.Tensor):
                    value.normal_()
            if isinstance(getattr(module, "running_var", None), torch.Tensor):
                module.running_var.uniform_(0.5, 2)
    return model


def mlp(inputs=4, width=8, outputs=1, seed=0, dtype=torch.float64):
    torch.manual_seed(seed)
    layers = nn.Sequential(nn.Linear(inputs, width), nn.Tanh(), nn.Linear(width, outputs))
    return layers.to(dtype)


class ConvNet(nn.Module):
    """Convolutions with groups, strides and paddings, activations in place, a skip connection."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.act = nn.ReLU(inplace=True)
        self.grouped = nn.Conv2d(8, 8, 3, padding="same", groups=2, bias=False)
        self.group_norm = nn.GroupNorm(2, 8)
        self.circular = nn.Conv2d(8, 8, 3, padding=1, padding_mode="circular", dilation=1)
        self.strided = nn.Conv2d(8, 4, 1, stride=2)
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(4, 5)

    def forward(self, x):
        h = self.act(self.norm(self.first(x)))
        z = self.group_norm(self.grouped(h))
        z += h
        z = self.strided(self.act(self.circular(self.act(z))))
        return self.head(self.dropout(z.mean((2, 3))))


class Signal(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(10, 6, padding_idx=0)
        self.conv = nn.Conv1d(6, 6, 3, padding=1, stride=2)
        self.transposed = nn.ConvTranspose1d(6, 6, 2, stride=2)
        self.norm = nn.LayerNorm(6)
        self.rms = nn.RMSNorm(6)
        self.head = nn.Linear(6, 3)

    def forward(self, tokens):
        x = self.transposed(self.conv(self.embedding(tokens).transpose(1, 2)))
        return self.head(self.rms(self.norm(x.transpose(1, 2))))


class Recurrent(nn.Module):
    def __init__(self, kind=nn.LSTM, **options):
        super().__init__()
        self.layer = kind(4, 6, batch_first=True, **options)
        self.head = nn.Linear(6, 2)

    def forward(self, x):
        return self.head(self.layer(x)[0][:, -1])


class CellLoop(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(4, 4)
        self.cell = nn.GRUCell(4, 6)
        self.head = nn.Linear(6, 2)

    def forward(self, x):
        h = x.new_zeros(len(x), 6)
        for t in range(x.shape[1]):
            h = self.cell(torch.tanh(self.embed(x[:, t])), h)
        return self.head(h)


class Tied(nn.Module):
    """An embedding whose weight is the head's too."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(10, 6)
        self.norm = nn.LayerNorm(6)
        self.head = nn.Linear(6, 10)
        self.head.weight = self.embedding.weight

    def forward(self, tokens):
        return self.head(self.norm(torch.tanh(self.embedding(tokens).mean(1))))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.layer(x).mean(1))


class TwoInputs(nn.Module):
    """Named inputs, a dict as the result, and a frozen layer."""

    def __init__(self):
        super().__init__()
        self.left = nn.Linear(3, 4)
        self.right = nn.Linear(2, 4)
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.head = nn.Linear(4, 2)
        self.unused = nn.Linear(2, 2)

    def forward(self, x, *, mask):
        h = torch.tanh(self.frozen(self.left(x) * torch.sigmoid(self.right(mask))))
        return {"logits": self.head(h), "hidden": h}
