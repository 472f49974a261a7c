"""Steps with the gradient by hand."""

import numpy

from common import Task

task = Task()
X, y, rate, clip = task.inputs, task.targets, task.learning_rate, task.clip_norm


def factor(squares):
    norm = numpy.sqrt(squares)
    return rate * clip / norm if norm > clip else rate


def relu_sgd():
    W, a = task.layers()
    for i in task.samples:
        x = X[i]
        z = W @ x
        h = numpy.maximum(z, 0.0)
        r = a @ h - y[i]
        c = r * a * (z > 0.0)
        step = factor(r * r * (h @ h) + (c @ c) * (x @ x))
        W -= numpy.outer(step * c, x)
        a -= (step * r) * h
    return W, a


def relu_gd():
    W, a = task.layers()
    for _ in range(task.step_count):
        Z = X @ W.T
        H = numpy.maximum(Z, 0.0)
        r = (H @ a - y) / len(y)
        da = r @ H
        dW = (r[:, None] * (Z > 0.0) * a).T @ X
        step = factor(da @ da + (dW * dW).sum())
        W -= step * dW
        a -= step * da
    return W, a


def diagonal_sgd():
    a, b = task.layers()
    for i in task.samples:
        x = X[i]
        c = ((a * b) @ x - y[i]) * x
        da, db = c * b, c * a
        step = factor(da @ da + db @ db)
        a -= step * da
        b -= step * db
    return a, b


def diagonal_gd():
    a, b = task.layers()
    for _ in range(task.step_count):
        c = (X @ (a * b) - y) @ X / len(y)
        da, db = c * b, c * a
        step = factor(da @ da + db @ db)
        a -= step * da
        b -= step * db
    return a, b


units = len(task.samples) if task.work.endswith("sgd") else task.step_count
task.answer(f"numpy {numpy.__version__}", globals()[task.work], units)
