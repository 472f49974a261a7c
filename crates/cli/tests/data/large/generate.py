"""Prints the sharpness of a perceptron with ten outputs on 1100 samples, from its p × p Gauss–Newton matrix,
and the largest stable learning rate of SGD with batches of one.

The latter is the η at which the second moments of a step of SGD, a map on p × p matrices, have the spectral radius 1:
X ↦ X − η(GX + XG) + η² (1/n) Σ G_iXG_i on the range of G. It is 1 over the largest λ with
(1/n) Σ G_iXG_i = λ (GX + XG).

The test `train_large.rs` has the same data and parameters, and these numbers. Needs numpy:  python generate.py
"""

import numpy as np

N, D, WIDTH, K = 1100, 2, 3, 10


def wave(count, frequency):
    return np.sin(frequency * np.arange(1, count + 1))


def threshold(own, g):
    values, vectors = np.linalg.eigh(g)
    kept = values > 1e-12 * values[-1]
    values, vectors = values[kept], vectors[:, kept]
    own = np.einsum("pa,npq,qb->nab", vectors, own, vectors)
    r = len(values)
    moments = np.einsum("nab,ncd->acbd", own, own, optimize=True).reshape(r * r, r * r) / N
    root = 1 / np.sqrt(np.add.outer(values, values).ravel())
    return 1 / np.linalg.eigvalsh(root[:, None] * moments * root)[-1]


def main():
    x = wave(N * D, 0.7).reshape(N, D)
    y = np.eye(K)[np.arange(N) % K]
    w1, b1 = wave(WIDTH * D, 1.1).reshape(WIDTH, D), wave(WIDTH, 0.3)
    w2, b2 = wave(K * WIDTH, 1.3).reshape(K, WIDTH), wave(K, 0.9)
    h = np.tanh(x @ w1.T + b1)
    f = h @ w2.T + b2
    slope = 1 - h**2
    through = w2[None, :, :] * slope[:, None, :]  # ∂f_o/∂z_j: n × k × width
    eye = np.broadcast_to(np.eye(K), (N, K, K))
    j = np.concatenate(
        [
            (through[..., None] * x[:, None, None, :]).reshape(N, K, -1),
            through,
            (eye[..., None] * h[:, None, None, :]).reshape(N, K, -1),
            eye,
        ],
        axis=2,
    )
    residual = f - y
    softmax = np.exp(f - f.max(axis=1, keepdims=True))
    softmax /= softmax.sum(axis=1, keepdims=True)
    hessians = {
        "squared": eye,
        "cross-entropy": eye * softmax[:, None, :] - softmax[:, :, None] * softmax[:, None, :],
    }
    derivatives = {"squared": residual, "cross-entropy": softmax - y}
    for name, s in hessians.items():
        own = np.einsum("nap,nab,nbq->npq", j, s, j, optimize=True)
        g = own.mean(axis=0)
        gradients = np.einsum("nap,na->np", j, derivatives[name])
        images = np.einsum("nap,np->na", j, gradients)
        batch = np.einsum("na,nab,nb->", images, s, images) / np.sum(gradients**2)
        values = [np.trace(g), np.linalg.norm(g), np.linalg.eigvalsh(g)[-1], batch]
        print(name, ", ".join(repr(float(value)) for value in values), "η* =", repr(float(threshold(own, g))))


if __name__ == "__main__":
    main()
