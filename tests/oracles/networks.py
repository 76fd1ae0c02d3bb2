"""Forward passes written out in numpy from the weights."""

import numpy as np
from scipy.special import expit

__all__ = ["ACTIVATIONS", "atomic_energies", "hidden_features", "linear_network_metric"]

ACTIVATIONS = {
    "sigmoid": expit,
    "tanh": np.tanh,
    "silu": lambda x: x * expit(x),
    "softplus": lambda x: np.logaddexp(0, x),
    "linear": lambda x: x,
}


def hidden_features(x, layers, activation: str) -> np.ndarray:
    """Activations of the last hidden layer; layers are (W, b or None) from input to output."""
    for weight, bias in layers[:-1]:
        x = ACTIVATIONS[activation](x @ weight.T + (0 if bias is None else bias))
    return x


def atomic_energies(features, types, layers_of, activation: str) -> np.ndarray:
    """Energies atom by atom; layers_of maps a species to its layers."""
    out = []
    for x, z in zip(features, types, strict=True):
        weight, bias = layers_of[int(z)][-1]
        hidden = hidden_features(x, layers_of[int(z)], activation)
        out.append((weight @ hidden).item() + (0.0 if bias is None else float(bias[0])))
    return np.array(out)


def linear_network_metric(w1, w2, w3) -> np.ndarray:
    """M with g_k . g_l = x_k^T M x_l for the network W3 W2 W1 x without biases."""
    body = w2 @ w1
    return np.sum((w3 @ w2) ** 2) * np.eye(w1.shape[1]) + np.sum(w3**2) * w1.T @ w1 + body.T @ body
