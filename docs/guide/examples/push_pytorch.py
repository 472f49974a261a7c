"""Pushes the network of export_pytorch.py away from its minimum, and trains on at several learning rates.

Needs torch and numpy:  python push_pytorch.py
"""

import copy

import torch

import export_pytorch as e

model, loss, x, y = e.trained_network(seed=0, steps=10_000, learning_rate=0.25)
for batch_size, learning_rate in [(8, 0.25), (1, 0.25), (1, 0.06), (8, 0.30)]:
    torch.manual_seed(5)
    pushed = copy.deepcopy(model)
    with torch.no_grad():
        for p in pushed.parameters():
            p += 1e-4 * torch.randn_like(p)
    before = loss(pushed(x), y).item()
    order = torch.stack([torch.randperm(e.SAMPLES)[:batch_size] for _ in range(3000)])
    e.train(pushed, loss, x, y, order, learning_rate)
    after = loss(pushed(x), y).item()
    print(f"batches of {batch_size}, learning rate {learning_rate}: {before:.1e} → {after:.1e}")
