"""The perceptron of the Hessian-vector product in PyTorch."""

import torch

torch.set_num_threads(1)


def perceptron(task):
    """The model, the inputs, the targets, and the vector in the shapes of the parameters."""
    parameters, vector = ([torch.from_numpy(part) for part in parts] for parts in task.perceptron())
    widths = [int(width) for width in task.widths]
    layers = []
    for before, after in zip(widths, widths[1:]):
        layers += [torch.nn.Linear(before, after, dtype=torch.float64), torch.nn.Tanh()]
    model = torch.nn.Sequential(*layers[:-1])
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), parameters):
            parameter.copy_(value)
    return model, torch.from_numpy(task.inputs), torch.from_numpy(task.targets), vector


def loss(output, target):
    """flatmin's: half the squared error of a sample, averaged over the samples."""
    return 0.5 * (output - target).square().sum() / len(target)
