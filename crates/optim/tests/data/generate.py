"""Records the reference trajectories of this folder with PyTorch's automatic differentiation.

    python generate.py             # makes the files that are missing, and checks the others
    python generate.py --check     # makes nothing
    python generate.py NAME ...    # only these, for example optimizers_relu

A file that is there must agree with what is computed to 1e-9; it is left as it is.

Needs numpy and torch (tried with 2.15, float64 on the processor). The problems of the files
`<model>_<method>_s0.npz` are kept where such a file is there: data, order of the samples and initial
parameters are read from it, and everything that follows from them is computed again. Without it they
are drawn anew. The problems of `optimizers_<model>.npz` are drawn from a fixed seed.
"""

import sys
from pathlib import Path

import numpy as np
import torch

torch.set_default_dtype(torch.float64)
HERE = Path(__file__).parent

# Every model: the arrays of its parameters, and f(x) from them.
MODELS = {
    "relu": (["w", "a"], lambda x, w, a: torch.relu(x @ w.T) @ a),
    "diagonal": (["a", "b"], lambda x, a, b: x @ (a * b)),
    "mlp": (
        ["w1", "b1", "w2", "b2", "w3", "b3"],
        lambda x, w1, b1, w2, b2, w3, b3: torch.tanh(torch.tanh(x @ w1.T + b1) @ w2.T + b2) @ w3 + b3,
    ),
    "sensing": (["u", "v"], lambda x, u, v: x @ (u @ v.T).ravel()),
    "univariate": (["w", "b", "a", "c"], lambda x, w, b, a, c: torch.relu(x * w + b) @ a + c),
}


class Problem:
    """A model on data, as a function of all parameters in one vector."""

    def __init__(self, model, x, y, initial):
        self.names, self.function = MODELS[model]
        self.x, self.y = torch.tensor(x), torch.tensor(y)
        self.shapes = [np.shape(initial[name]) for name in self.names]
        self.start = np.concatenate([np.ravel(initial[name]) for name in self.names])

    def split(self, parameters):
        sizes = [int(np.prod(shape)) for shape in self.shapes]
        parts = torch.split(parameters, sizes)
        return [part.reshape(shape) for part, shape in zip(parts, self.shapes)]

    def outputs(self, parameters, x=None):
        return self.function(self.x if x is None else x, *self.split(parameters))

    def loss(self, parameters, samples=None):
        """½ of the mean squared residual, over some samples or all."""
        x, y = (self.x, self.y) if samples is None else (self.x[samples], self.y[samples])
        return 0.5 * torch.mean((self.outputs(parameters, x) - y) ** 2)


def clip(gradient, largest):
    """Scales a gradient to the norm `largest` if it is larger; its norm before, and whether it was.

    `torch.nn.utils.clip_grad_norm_` does the same with 1e-6 added to the norm it divides by, which
    would make trajectories differ by as much.
    """
    norm = torch.linalg.vector_norm(gradient).item()
    if norm > largest:
        gradient.mul_(largest / norm)
    return norm, norm > largest


def train(problem, order, learning_rates, largest, decoupled=0.0, **settings):
    """Steps of `torch.optim.SGD`; yields parameters, gradient norm and whether it was clipped."""
    parameters = torch.tensor(problem.start, requires_grad=True)
    optimizer = torch.optim.SGD([parameters], lr=1.0, **settings)
    for samples, learning_rate in zip(order, learning_rates):
        optimizer.param_groups[0]["lr"] = learning_rate
        optimizer.zero_grad()
        problem.loss(parameters, torch.tensor(samples)).backward()
        seen = clip(parameters.grad, largest)
        with torch.no_grad():
            # As AdamW does; SGD has no decoupled decay of its own.
            parameters.mul_(1.0 - learning_rate * decoupled)
        optimizer.step()
        yield parameters.detach().numpy().copy(), *seen


def threshold_batch_1(jacobian):
    """The largest mean-square stable learning rate of SGD with batches of one sample.

    2/η* is the largest eigenvalue of C^(-1/2) D C^(-1/2), C = (G ⊗ I + I ⊗ G)/2 and
    D = (1/n) Σ (g_i g_iᵀ) ⊗ (g_i g_iᵀ), on the range of G, in its eigenbasis.
    """
    n = len(jacobian)
    left, singular, _ = np.linalg.svd(jacobian, full_matrices=False)
    rank = int(np.sum(singular > singular[0] * 1e-13))
    rows = left[:, :rank] * singular[:rank]
    eigenvalues = singular[:rank] ** 2 / n
    c = ((eigenvalues[:, None] + eigenvalues[None, :]) / 2).ravel()
    squares = np.stack([np.outer(row, row).ravel() for row in rows])
    d = squares.T @ squares / n
    return 2.0 / np.linalg.eigvalsh(d / np.sqrt(np.outer(c, c)))[-1]


# Name, model, batch size (0: all samples), learning rate, clip norm, whether the dense Hessian is
# stored.
TRAJECTORIES = [
    ("relu_sgd_b1_s0", "relu", 1, 0.02, 1.5, True),
    ("relu_sgd_b1_noclip_s0", "relu", 1, 0.01, np.inf, False),
    ("relu_sgd_b4_s0", "relu", 4, 0.05, 1.0, False),
    ("relu_gd_s0", "relu", 0, 0.05, 0.8, True),
    ("diagonal_sgd_b1_s0", "diagonal", 1, 0.01, 3.0, True),
    ("diagonal_sgd_b3_s0", "diagonal", 3, 0.02, 2.0, True),
    ("diagonal_gd_s0", "diagonal", 0, 0.03, 0.5, True),
    ("sensing_sgd_b1_s0", "sensing", 1, 0.01, 4.0, False),
    ("sensing_sgd_b3_s0", "sensing", 3, 0.02, 2.0, False),
    ("sensing_gd_s0", "sensing", 0, 0.03, 0.5, False),
    ("univariate_sgd_b1_s0", "univariate", 1, 0.02, 1.5, False),
    ("univariate_sgd_b4_s0", "univariate", 4, 0.05, 1.0, False),
    ("univariate_gd_s0", "univariate", 0, 0.1, 0.8, False),
    ("mlp_sgd_b4_s0", "mlp", 4, 0.05, 1.0, True),
    ("mlp_gd_s0", "mlp", 0, 0.1, np.inf, True),
]


def draw_problem(model, batch_size, rng):
    """Data, initial parameters and order of a trajectory that has no file yet."""
    n, d = {"diagonal": (12, 30), "sensing": (10, 12), "univariate": (9, 1)}.get(model, (20, 10))
    shapes = {
        "relu": {"w": (16, 10), "a": (16,)},
        "diagonal": {"a": (30,), "b": (30,)},
        # 4 × 3 matrices, with factors of five columns.
        "sensing": {"u": (4, 5), "v": (3, 5)},
        "univariate": {"w": (11,), "b": (11,), "a": (11,), "c": ()},
        "mlp": {"w1": (8, 10), "b1": (8,), "w2": (8, 8), "b2": (8,), "w3": (8,), "b3": ()},
    }[model]
    initial = {name: 0.5 * rng.standard_normal(shape) for name, shape in shapes.items()}
    size = batch_size or n
    order = np.stack([
        np.arange(n) if batch_size == 0 else rng.choice(n, size, replace=False) for _ in range(1000)
    ])
    return rng.standard_normal((n, d)), rng.standard_normal(n), initial, order


def trajectory(name, model, batch_size, learning_rate, largest, has_hessian):
    names = MODELS[model][0]
    file = HERE / f"{name}.npz"
    if file.exists():
        old = np.load(file)
        x, y, order = old["x"], old["y"], old["order"]
        initial = {array: old[f"initial_{array}"] for array in names}
    else:
        x, y, initial, order = draw_problem(model, batch_size, np.random.default_rng(0))
    problem = Problem(model, x, y, initial)
    arrays = {"x": x, "y": y, "order": order}
    arrays |= {"learning_rate": np.float64(learning_rate), "clip_norm": np.float64(largest)}
    norms, clipped, losses, states = [], [], [problem.loss(torch.tensor(problem.start)).item()], {}
    steps = train(problem, order, [learning_rate] * len(order), largest)
    for step, (parameters, norm, is_clipped) in enumerate(steps, 1):
        norms.append(norm)
        clipped.append(is_clipped)
        if step in (10, 100, 1000):
            states[step] = [part.numpy() for part in problem.split(torch.tensor(parameters))]
            losses.append(problem.loss(torch.tensor(parameters)).item())
    last = torch.tensor(parameters)
    arrays |= {"gradient_norms": np.array(norms), "clipped": np.array(clipped)}
    for k, array in enumerate(names):
        arrays[f"initial_{array}"] = initial[array]
        arrays |= {f"{array}_{step}": state[k] for step, state in states.items()}
    jacobian = torch.func.jacrev(problem.outputs)(last).numpy()
    hessian = torch.func.hessian(problem.loss)(last).numpy()
    gauss_newton = np.linalg.eigvalsh(jacobian @ jacobian.T / len(x))
    eigenvalues = np.linalg.eigvalsh((hessian + hessian.T) / 2)
    arrays |= {
        "outputs": problem.outputs(last).numpy(),
        "jacobian": jacobian,
        "gauss_newton_trace": np.sum(jacobian**2) / len(x),
        "gauss_newton_frobenius_norm": np.linalg.norm(gauss_newton),
        "gauss_newton_lambda_max": gauss_newton[-1],
        "hessian_trace": np.trace(hessian),
        "hessian_top_eigenvalues": eigenvalues[::-1][:5].copy(),
        "hessian_smallest_eigenvalue": eigenvalues[0],
        "hessian_frobenius_norm": np.linalg.norm(hessian),
        "loss": np.array(losses),
        "threshold_batch_1": threshold_batch_1(jacobian),
    }
    if has_hessian:
        arrays["hessian"] = hessian
    first, second = (part.numpy() for part in problem.split(last)[:2])
    if model == "relu":
        arrays["path_norm"] = np.sum(np.abs(second) * np.linalg.norm(first, axis=1))
    if model == "diagonal":
        squares = np.sum(first**2 + second**2)
        arrays["balance_ratio"] = squares / (2 * np.sum(np.abs(first * second)))
    return arrays


# The models of which `optimizers_<model>.npz` records steps.
OPTIMIZED = ["relu", "diagonal", "mlp"]

# The optimizers whose steps `optimizers_<model>.npz` records: settings of `torch.optim.SGD`, and
# decoupled weight decay.
OPTIMIZERS = {
    "sgd": {},
    "momentum": {"momentum": 0.9},
    "dampening": {"momentum": 0.9, "dampening": 0.3},
    "nesterov": {"momentum": 0.9, "nesterov": True},
    "weight_decay": {"weight_decay": 0.05},
    "decoupled_weight_decay": {"decoupled": 0.05},
    "dampening_weight_decay": {"momentum": 0.8, "dampening": 0.5, "weight_decay": 0.02},
    "nesterov_weight_decay": {"momentum": 0.8, "nesterov": True, "weight_decay": 0.02},
    "momentum_decoupled_weight_decay": {"momentum": 0.8, "decoupled": 0.02},
}
KEYS = ["momentum", "dampening", "nesterov", "weight_decay", "decoupled"]

# Batch size (0: all samples), clip norm, and whether the learning rate falls to 0 along a cosine.
RUNS = {"b1": (1, np.inf, False), "b3": (3, 0.5, True), "gd": (0, np.inf, False)}
STEPS = 120
RECORDED = [2, 10, STEPS]


def optimizers(model):
    """Every optimizer with every kind of batches, on a small problem."""
    rng = np.random.default_rng([20230727, list(MODELS).index(model)])
    n, d = 7, 4
    shapes = {
        "relu": {"w": (5, d), "a": (5,)},
        "diagonal": {"a": (d,), "b": (d,)},
        "mlp": {"w1": (5, d), "b1": (5,), "w2": (3, 5), "b2": (3,), "w3": (3,), "b3": ()},
    }[model]
    initial = {name: 0.7 * rng.standard_normal(shape) for name, shape in shapes.items()}
    x, y = rng.standard_normal((n, d)), rng.standard_normal(n)
    problem = Problem(model, x, y, initial)
    arrays = {"x": x, "y": y, "initial": problem.start, "steps": np.array(RECORDED)}
    learning_rate = 0.02
    arrays["learning_rate"] = np.float64(learning_rate)
    for run, (batch_size, largest, is_cosine) in RUNS.items():
        if batch_size == 0:
            order = np.tile(np.arange(n), (STEPS, 1))
        else:
            order = np.stack([rng.choice(n, batch_size, replace=False) for _ in range(STEPS)])
        progress = np.arange(STEPS) / STEPS
        factors = 0.5 * (1 + np.cos(np.pi * progress)) if is_cosine else np.ones(STEPS)
        arrays[f"{run}_order"] = order
        arrays[f"{run}_clip_norm"] = np.float64(largest)
        arrays[f"{run}_is_cosine"] = np.bool_(is_cosine)
        for name, settings in OPTIMIZERS.items():
            steps = train(problem, order, learning_rate * factors, largest, **settings)
            path = [parameters for parameters, _, _ in steps]
            arrays[f"{run}_{name}"] = np.stack([path[step - 1] for step in RECORDED])
    for name, settings in OPTIMIZERS.items():
        arrays[name] = np.array([float(settings.get(key, 0.0)) for key in KEYS])
    return arrays


# The names of `cross_entropy.npz`: label smoothing, and whether the labels are classes (or else
# probabilities).
CROSS_ENTROPIES = {"classes": (0.0, True), "smoothed": (0.1, True), "soft": (0.2, False)}
CROSS_ENTROPY_STEPS = [1, 10, 50]


class Classifier(Problem):
    """A perceptron with three outputs, and `torch.nn.functional.cross_entropy` of them."""

    def __init__(self, x, labels, smoothing, shapes, start):
        self.x, self.labels, self.smoothing = torch.tensor(x), torch.tensor(labels), smoothing
        self.function = MODELS["mlp"][1]
        self.shapes, self.start = shapes, start

    def outputs(self, parameters, x=None):
        w1, b1, w2, b2, w3, b3 = self.split(parameters)
        return self.function(self.x if x is None else x, w1, b1, w2, b2, w3.T, b3)

    def loss(self, parameters, samples=None):
        x, labels = self.x, self.labels
        if samples is not None:
            x, labels = x[samples], labels[samples]
        outputs = self.outputs(parameters, x)
        return torch.nn.functional.cross_entropy(outputs, labels, label_smoothing=self.smoothing)

    def gauss_newton(self, parameters):
        """(1/n) Σ J_iᵀ (diag π_i − π_i π_iᵀ) J_i."""
        jacobian = torch.func.jacrev(self.outputs)(parameters)
        p = torch.softmax(self.outputs(parameters), dim=1)
        curvature = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
        return torch.einsum("iap,iab,ibq->pq", jacobian, curvature, jacobian).numpy() / len(self.x)


def cross_entropy():
    """Steps on cross-entropy, with and without momentum, with label smoothing and soft labels."""
    rng = np.random.default_rng(20261130)
    n, learning_rate, momentum = 9, 0.2, 0.9
    shapes = [(5, 4), (5,), (4, 5), (4,), (3, 4), (3,)]
    start = np.concatenate([0.7 * rng.standard_normal(shape).ravel() for shape in shapes])
    x, classes = rng.standard_normal((n, 4)), rng.integers(3, size=n)
    soft = rng.dirichlet(np.ones(3), size=n)
    arrays = {"x": x, "classes": classes, "soft": soft, "initial": start}
    arrays |= {"learning_rate": np.float64(learning_rate), "momentum": np.float64(momentum)}
    arrays["steps"] = np.array(CROSS_ENTROPY_STEPS)
    last = CROSS_ENTROPY_STEPS[-1]
    orders = {"gd": np.tile(np.arange(n), (last, 1))}
    for run, batch_size in [("b1", 1), ("b4", 4)]:
        order = np.stack([rng.choice(n, batch_size, replace=False) for _ in range(last)])
        orders[run] = arrays[f"{run}_order"] = order
    for name, (smoothing, is_classes) in CROSS_ENTROPIES.items():
        labels = classes if is_classes else soft
        problem = Classifier(x, labels, smoothing, shapes, start)
        arrays[f"{name}_smoothing"] = np.float64(smoothing)
        for run, order in orders.items():
            for optimizer, settings in [("sgd", {}), ("momentum", {"momentum": momentum})]:
                rates = [learning_rate / (5 if settings else 1)] * last
                steps = list(train(problem, order, rates, np.inf, **settings))
                path = np.stack([steps[step - 1][0] for step in CROSS_ENTROPY_STEPS])
                key = f"{name}_{run}_{optimizer}"
                arrays[key] = path
                arrays[f"{key}_gradient_norms"] = np.array([norm for _, norm, _ in steps])
                losses = [problem.loss(torch.tensor(at)).item() for at in [start, *path]]
                arrays[f"{key}_losses"] = np.array(losses)
        at = torch.tensor(arrays[f"{name}_b4_sgd"][-1])
        arrays[f"{name}_outputs"] = problem.outputs(at).numpy()
        arrays[f"{name}_gradient"] = torch.func.grad(problem.loss)(at).numpy()
        arrays[f"{name}_hessian"] = torch.func.hessian(problem.loss)(at).numpy()
        arrays[f"{name}_gauss_newton"] = problem.gauss_newton(at)
    return arrays


def main():
    makers = {case[0]: (lambda case=case: trajectory(*case)) for case in TRAJECTORIES}
    makers |= {f"optimizers_{model}": (lambda model=model: optimizers(model)) for model in OPTIMIZED}
    makers["cross_entropy"] = cross_entropy
    wanted = [name for name in sys.argv[1:] if name in makers] or list(makers)
    worst = 0.0
    for name in wanted:
        make = makers[name]
        arrays, file = make(), HERE / f"{name}.npz"
        if file.exists():
            old = np.load(file)
            assert set(old.files) == set(arrays), f"{name}: {set(old.files) ^ set(arrays)}"
            for key in old.files:
                new = np.asarray(arrays[key], dtype=float)
                with np.errstate(invalid="ignore"):
                    scaled = np.abs(new - old[key]) / np.maximum(1.0, np.abs(old[key]))
                difference = float(np.max(np.where(new == old[key], 0.0, scaled)))
                worst = max(worst, difference)
                assert difference < 1e-9, f"{name}: {key} differs by {difference}"
        elif "--check" not in sys.argv[1:]:
            np.savez_compressed(file, **arrays)
    print(f"{len(wanted)} files, largest difference from those that were there: {worst:.1e}")


if __name__ == "__main__":
    main()
