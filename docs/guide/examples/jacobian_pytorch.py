"""The Jacobian of a PyTorch model as `flatmin analyze` reads it, samples × outputs × parameters, and its Gram matrix.

Copy what you need. Needs torch and numpy; the checks below compare all of it with each other and with
finite differences:  python jacobian_pytorch.py
"""

import numpy as np
import torch
from torch import nn
from torch.func import functional_call, jacrev, vmap


def trained_parameters(model):
    """The parameters that the optimizer changes, in the order of the columns; frozen ones are left out."""
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}


@torch.no_grad()
def jacobian(model, *inputs, output=lambda result: result, only=None, chunk=64, **named):
    """The n × k × p array of ∂f_o(x_i)/∂θ. `output` picks the tensor with the outputs from what the model returns."""
    trained = trained_parameters(model)
    trained = {name: p for name, p in trained.items() if only is None or name in only}

    def outputs(trained, sample, named):
        sample = [tensor.unsqueeze(0) for tensor in sample]
        named = {key: tensor.unsqueeze(0) for key, tensor in named.items()}
        return output(functional_call(model, trained, tuple(sample), named)).reshape(-1)

    rows = []
    for start in range(0, len([*inputs, *named.values()][0]), chunk):
        part = [tensor[start : start + chunk] for tensor in inputs]
        named_part = {key: tensor[start : start + chunk] for key, tensor in named.items()}
        by_name = vmap(jacrev(outputs), in_dims=(None, 0, 0))(trained, part, named_part)
        flat = [by_name[name].reshape(*by_name[name].shape[:2], -1) for name in trained]
        rows.append(torch.cat(flat, dim=2).cpu())
    return torch.cat(rows).numpy()


def jacobian_by_loop(model, *inputs, output=lambda result: result, **named):
    """The same array from a backward pass for each output of each sample, for modules that vmap does not take."""
    trained = [p for p in model.parameters() if p.requires_grad]
    rows = []
    for i in range(len([*inputs, *named.values()][0])):
        sample = [tensor[i : i + 1] for tensor in inputs]
        result = output(model(*sample, **{key: tensor[i : i + 1] for key, tensor in named.items()})).reshape(-1)
        for o in range(len(result)):
            row = torch.autograd.grad(result[o], trained, retain_graph=True, materialize_grads=True)
            rows.append(torch.cat([gradient.reshape(-1) for gradient in row]).cpu())
    return torch.stack(rows).reshape(-1, len(result), len(rows[0])).numpy()


def gram(model, *inputs, columns=100_000, **settings):
    """The nk × nk matrix JJᵀ, not divided by n, its rows sample by sample: each column of J is made once, and dropped."""
    groups = [[]]
    for name, p in trained_parameters(model).items():
        if groups[-1] and sum(size for _, size in groups[-1]) + p.numel() > columns:
            groups.append([])
        groups[-1].append((name, p.numel()))
    total = 0
    for group in groups:
        j = jacobian(model, *inputs, only=[name for name, _ in group], **settings)
        j = j.reshape(-1, j.shape[2]).astype(np.float64)  # nk × the columns of the group
        total = total + j @ j.T
    return total


def blocks(model):
    """The columns of each parameter, for `--blocks`: name → [first, end)."""
    ends = np.cumsum([p.numel() for p in trained_parameters(model).values()]).tolist()
    return {name: [first, end] for name, first, end in zip(trained_parameters(model), [0, *ends], ends)}


class Small(nn.Module):
    """Two inputs, a frozen layer, a scalar parameter, and a dictionary with k outputs."""

    def __init__(self, k):
        super().__init__()
        self.frozen, self.hidden, self.last = nn.Linear(3, 4), nn.Linear(4, 5), nn.Linear(5, k)
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.frozen.requires_grad_(False)

    def forward(self, x, shift):
        hidden = torch.tanh(self.hidden(self.frozen(x) + shift))
        return {"logits": self.scale * self.last(hidden), "hidden": hidden}


class Recurrent(nn.Module):
    def __init__(self, k):
        super().__init__()
        self.cell, self.last = nn.LSTM(3, 4, batch_first=True), nn.Linear(4, k)

    def forward(self, x):
        return self.last(self.cell(x)[0][:, -1])


def differences(model, *inputs, output=lambda result: result, step=1e-6):
    """The array by central differences, an independent check."""
    columns = []
    with torch.no_grad():
        for p in model.parameters():
            for j in range(p.numel() if p.requires_grad else 0):
                values, old = [], p.view(-1)[j].item()
                for moved in (old + step, old - step):
                    p.view(-1)[j] = moved
                    values.append(output(model(*inputs)))
                p.view(-1)[j] = old
                columns.append((values[0] - values[1]) / (2 * step))
    return torch.stack(columns, dim=-1).numpy()


def agree(what, one, other, tolerance=1e-12):
    assert one.shape == other.shape, f"{what}: {one.shape} and {other.shape}"
    difference = np.abs(one - other).max() / np.abs(other).max()
    assert difference < tolerance, f"{what}: they differ by {difference:.1e}"
    print(f"{what} {one.shape}: agree")


def main():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    n, logits = 7, lambda result: result["logits"]
    for k in (1, 3):
        model, inputs = Small(k).eval(), (torch.randn(n, 3), torch.randn(n, 4))
        j = jacobian(model, *inputs, output=logits, chunk=3)
        assert j.shape == (n, k, 5 * 4 + 5 + 5 * k + k + 1), "frozen parameters are left out"
        assert list(blocks(model).values())[-1][1] == j.shape[2]
        agree("jacobian, finite differences", j, differences(model, *inputs, output=logits), 1e-8)
        agree("jacobian, by loop", j, jacobian_by_loop(model, *inputs, output=logits))
        agree("named inputs", j, jacobian(model, inputs[0], shift=inputs[1], output=logits))
        agree("named inputs, by loop", j, jacobian_by_loop(model, inputs[0], shift=inputs[1], output=logits))
        full = j.reshape(n * k, -1) @ j.reshape(n * k, -1).T
        for columns in (1, 10, 10**9):
            agree("gram", gram(model, *inputs, output=logits, columns=columns), full)
        recurrent, x = Recurrent(k).eval(), torch.randn(n, 6, 3)
        agree("recurrent, finite differences", jacobian_by_loop(recurrent, x), differences(recurrent, x), 1e-8)
    squeezed = nn.Sequential(nn.Linear(3, 1), nn.Flatten(0)).eval()  # an output without an axis of its own
    assert jacobian(squeezed, torch.randn(n, 3)).shape == (n, 1, 4)


if __name__ == "__main__":
    main()
