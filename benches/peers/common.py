"""What every script here shares: reading what flatmin wrote, timing, answering."""

import json
import pathlib
import sys
import time

import numpy


class Task:
    """What is to be done, as flatmin wrote it into `inputs.npz`."""

    def __init__(self):
        folder, seconds, self.work, *self.variant = sys.argv[1:]
        self.folder = pathlib.Path(folder)
        self.seconds = float(seconds)
        with numpy.load(self.folder / "inputs.npz") as arrays:
            self.arrays = {name: arrays[name] for name in arrays.files}
        for name, array in self.arrays.items():
            setattr(self, name, array if array.ndim else array.item())

    def layers(self):
        """The initial parameters of a two-layer model: W (m x d) and a, or a and b."""
        d = self.inputs.shape[1]
        if self.work.startswith("relu"):
            m = self.initial.size // (d + 1)
            return self.initial[: m * d].reshape(m, d).copy(), self.initial[m * d :].copy()
        return self.initial[:d].copy(), self.initial[d:].copy()

    @property
    def samples(self):
        """The samples of the steps of batch size 1."""
        return self.order.astype(int)

    @property
    def step_count(self):
        return int(self.steps)

    def perceptron(self):
        """Weights (out x in) and biases of every layer, then the vector in the same shapes."""
        widths = [int(width) for width in self.widths]
        parts = []
        for flat in (self.initial, self.vector):
            at, part = 0, []
            for before, after in zip(widths, widths[1:]):
                for shape in ((after, before), (after,)):
                    size = int(numpy.prod(shape))
                    part.append(flat[at : at + size].reshape(shape).copy())
                    at += size
            parts.append(part)
        return parts

    def answer(self, version, run, units):
        """Times `run`, which does `units` units of work, and writes what it gives: arrays in flatmin's order."""
        # The first run compiles, allocates and fills caches.
        result = run()
        times = []
        end = time.perf_counter() + self.seconds
        while not times or time.perf_counter() < end:
            start = time.perf_counter()
            run()
            times.append((time.perf_counter() - start) / units)
        flat = [numpy.asarray(part, dtype=numpy.float64).ravel() for part in result]
        numpy.savez(self.folder / "result.npz", result=numpy.concatenate(flat))
        print(json.dumps({"seconds": float(numpy.median(times)), "minimum": min(times), "version": version}))
