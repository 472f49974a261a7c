"""Backward twice, from nothing."""

import torch

from common import Task
from perceptron_torch import loss, perceptron

task = Task()
model, inputs, targets, vector = perceptron(task)
parameters = list(model.parameters())


def product():
    value = loss(model(inputs), targets)
    gradients = torch.autograd.grad(value, parameters, create_graph=True)
    return torch.autograd.grad(gradients, parameters, grad_outputs=vector)


task.answer(f"torch {torch.__version__}", product, 1)
