"""PyHessian, which keeps the graph of the gradient."""

from importlib.metadata import version

import pyhessian
from pyhessian.utils import hessian_vector_product

from common import Task
from perceptron_torch import loss, perceptron

task = Task()
model, inputs, targets, vector = perceptron(task)
hessian = pyhessian.hessian(model, loss, data=(inputs, targets), cuda=False)
task.answer(
    f"pyhessian {version('pyhessian')}",
    lambda: [part.detach() for part in hessian_vector_product(hessian.gradsH, hessian.params, vector)],
    1,
)
