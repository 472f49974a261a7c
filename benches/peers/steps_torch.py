"""Steps as a user of PyTorch takes them: autograd, `clip_grad_norm_`, `torch.optim.SGD`; or the whole step compiled."""

import torch

from common import Task

# `clip_grad_norm_` divides by the norm + 1e-6. With the loss in other units (a power of two, which rounds nothing)
# that is far below rounding, and the step is the one of the definition.
SCALE = 2.0**40

task = Task()
(variant,) = task.variant
torch.set_num_threads(1)
X, y = torch.from_numpy(task.inputs), torch.from_numpy(task.targets)
is_sgd = task.work.endswith("sgd")
samples = task.samples.tolist()
units = len(samples) if is_sgd else task.step_count


def output(first, second, x):
    if task.work.startswith("relu"):
        return torch.relu(x @ first.T) @ second
    return x @ (first * second)


def loss(first, second, x, target):
    return 0.5 * (output(first, second, x) - target).square().mean()


def batches():
    if is_sgd:
        return ((X[i : i + 1], y[i : i + 1]) for i in samples)
    return ((X, y) for _ in range(units))


def eager():
    layers = [torch.nn.Parameter(torch.from_numpy(layer)) for layer in task.layers()]
    optimizer = torch.optim.SGD(layers, lr=task.learning_rate / SCALE)
    for x, target in batches():
        optimizer.zero_grad()
        (SCALE * loss(*layers, x, target)).backward()
        torch.nn.utils.clip_grad_norm_(layers, SCALE * task.clip_norm)
        optimizer.step()
    return [layer.detach().numpy() for layer in layers]


@torch.compile(fullgraph=True)
def step(first, second, x, target):
    gradients = torch.func.grad(loss, argnums=(0, 1))(first, second, x, target)
    norm = (gradients[0].square().sum() + gradients[1].square().sum()).sqrt()
    factor = task.learning_rate * torch.where(norm > task.clip_norm, task.clip_norm / norm, 1.0)
    first.sub_(factor * gradients[0])
    second.sub_(factor * gradients[1])


def compiled():
    layers = [torch.from_numpy(layer) for layer in task.layers()]
    for x, target in batches():
        step(*layers, x, target)
    return [layer.numpy() for layer in layers]


task.answer(f"torch {torch.__version__}", {"eager": eager, "compile": compiled}[variant], units)
