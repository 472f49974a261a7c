"""curvlinops."""

from importlib.metadata import version

import torch
from curvlinops import HessianLinearOperator

from common import Task
from perceptron_torch import perceptron

task = Task()
model, inputs, targets, vector = perceptron(task)
# Its losses are PyTorch's: mean over all outputs of all samples, and no half.
hessian = HessianLinearOperator(
    model,
    torch.nn.MSELoss(),
    list(model.parameters()),
    [(inputs, targets)],
    check_deterministic=False,
)
scale = 0.5 * targets.shape[1]
task.answer(
    f"curvlinops {version('curvlinops-for-pytorch')}",
    lambda: [scale * part.detach() for part in hessian @ vector],
    1,
)
