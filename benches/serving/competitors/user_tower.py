"""The user tower in numpy, from a model's own files: what a team writes that serves such a model from Python."""

import json
import pathlib

import numpy as np

GELU_SLOPE = np.float32(1.702)
COUNT_SCALE = 0.2


def read_safetensors(path):
    """Named float32 arrays."""
    data = path.read_bytes()
    header_bytes = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + header_bytes])
    body = memoryview(data)[8 + header_bytes :]
    return {
        name: np.frombuffer(body[slice(*entry["data_offsets"])], np.float32).reshape(entry["shape"])
        for name, entry in header.items()
        if name != "__metadata__" and entry["dtype"] == "F32"
    }


class UserTower:
    def __init__(self, folder):
        folder = pathlib.Path(folder)
        weights = read_safetensors(folder / "weights.safetensors")
        part = lambda name: np.ascontiguousarray(weights[f"user_tower.{name}"])
        self.hidden, self.hidden_bias = part("hidden.weight"), part("hidden.bias")
        self.output, self.output_bias = part("output.weight"), part("output.bias")
        self.residual = part("residual")
        decays = json.loads((folder / "manifest.json").read_text())["hyperparameters"]["decays"]
        self.decays = np.array(decays, np.float32)
        self.averages = {}

    def embed(self, liked):
        """`liked` [n, d], oldest first, n > 0; gives a vector [d] of unit norm. Nobody here has skips."""
        n, d = liked.shape
        x = np.zeros((len(self.decays) + 1) * d + 2, np.float32)
        x[: len(self.decays) * d] = (self.average(n) @ liked).ravel()
        x[-2] = COUNT_SCALE * np.log1p(n)
        y = x @ self.hidden + self.hidden_bias
        y /= 1 + np.exp(-GELU_SLOPE * y)
        z = y @ self.output + self.output_bias + x @ self.residual
        return z / np.linalg.norm(z)

    def average(self, n):
        """Weights [k, n] that turn n likes into k decayed means."""
        if n not in self.averages:
            ages = np.arange(n - 1, -1, -1)
            weights = self.decays[:, None] ** ages
            self.averages[n] = weights / weights.sum(axis=1, keepdims=True)
        return self.averages[n]
