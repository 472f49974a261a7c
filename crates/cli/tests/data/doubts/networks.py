"""Jacobians of small networks by backpropagation, and exact thresholds by dense operators.

Numpy only; nothing here is shared with the program that is tested.
"""

import numpy as np

ACTIVATIONS = {
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0).astype(float)),
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "sin": (np.sin, np.cos),
    "linear": (lambda z: z, np.ones_like),
}


def perceptron(rng, widths, bias=True, last_bias=None, scale=1.0):
    """Weights and biases, in the order in which PyTorch lists them."""
    last_bias = bias if last_bias is None else last_bias
    layers = []
    for layer, (fan_in, fan_out) in enumerate(zip(widths, widths[1:])):
        has_bias = last_bias if layer == len(widths) - 2 else bias
        w = scale * rng.normal(size=(fan_out, fan_in)) / np.sqrt(fan_in)
        layers.append((w, 0.3 * rng.normal(size=fan_out) if has_bias else None))
    return layers


def outputs(layers, x, activation="tanh"):
    f, _ = ACTIVATIONS[activation]
    h = x
    for layer, (w, b) in enumerate(layers):
        h = h @ w.T + (0 if b is None else b)
        if layer < len(layers) - 1:
            h = f(h)
    return h


def by_parameter(layers, x, activation="tanh"):
    """Derivatives of the outputs, n x k x (shape of the parameter), for each parameter."""
    f, slope = ACTIVATIONS[activation]
    hidden, before = [x], []
    for layer, (w, b) in enumerate(layers):
        z = hidden[-1] @ w.T + (0 if b is None else b)
        before.append(z)
        if layer < len(layers) - 1:
            hidden.append(f(z))
    n, k = before[-1].shape
    back = np.broadcast_to(np.eye(k), (n, k, k))
    found = []
    for layer in reversed(range(len(layers))):
        w, b = layers[layer]
        if b is not None:
            found.append((f"{layer}.bias", back.copy()))
        found.append((f"{layer}.weight", np.einsum("nko,ni->nkoi", back, hidden[layer])))
        if layer > 0:
            back = np.einsum("nko,oi,ni->nki", back, w, slope(before[layer - 1]))
    return dict(reversed(found))


def joined(parts):
    """n x k x p, as torch.cat of flatten(start_dim=2)."""
    return np.concatenate([j.reshape(*j.shape[:2], -1) for j in parts.values()], axis=2)


def flattened(parts):
    """n x kp, as torch.cat of flatten(start_dim=1): the mistake."""
    return np.concatenate([j.reshape(len(j), -1) for j in parts.values()], axis=1)


def threshold(jacobian, batch_size=1, scale=1.0):
    """The largest stable learning rate of plain SGD, batches without replacement, J n x k x p."""
    n, k, p = jacobian.shape
    rows = jacobian.reshape(n * k, p)
    u, s, _ = np.linalg.svd(rows, full_matrices=False)
    keep = s > 1e-10 * s[0]
    rows = (u[:, keep] * s[keep]).reshape(n, k, -1)
    r = rows.shape[2]
    of_sample = np.einsum("nka,nkb->nab", rows, rows)
    g = of_sample.mean(0)
    noise = (n - batch_size) / (batch_size * (n - 1)) if n > 1 else 0.0
    d = (1 - noise) * np.einsum("ac,bd->abcd", g, g)
    d += noise * np.einsum("nac,nbd->abcd", of_sample, of_sample) / n
    c = np.einsum("ac,bd->abcd", g, np.eye(r)) + np.einsum("ac,bd->abcd", np.eye(r), g)
    c, d = c.reshape(r * r, r * r), d.reshape(r * r, r * r)
    lower = np.linalg.cholesky(c)
    inverse = np.linalg.inv(lower)
    return float(1 / np.linalg.eigvalsh(inverse @ d @ inverse.T)[-1] / scale)


def gram(jacobian):
    rows = jacobian.reshape(-1, jacobian.shape[-1])
    return rows @ rows.T


def fit(rng, layers, x, y, activation="tanh", until=1e-3, steps=20000):
    """Gauss-Newton steps until the mean squared residual is small; the residuals."""
    for _ in range(steps):
        r = (outputs(layers, x, activation) - y).reshape(-1)
        if np.mean(r**2) < until:
            break
        parts = by_parameter(layers, x, activation)
        j = joined(parts).reshape(len(r), -1)
        step = j.T @ np.linalg.solve(j @ j.T + 1e-2 * np.trace(j @ j.T) / len(r) * np.eye(len(r)), r)
        at = 0
        for index, (w, b) in enumerate(layers):
            w = w - 0.2 * step[at : at + w.size].reshape(w.shape)
            at += w.size
            if b is not None:
                b = b - 0.2 * step[at : at + b.size]
                at += b.size
            layers[index] = (w, b)
    return outputs(layers, x, activation) - y


def bfloat16(values):
    """Rounded to the upper half of single precision, as float32."""
    bits = np.asarray(values, np.float32).view(np.uint32).astype(np.uint64)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return rounded.astype(np.uint32).view(np.float32)
