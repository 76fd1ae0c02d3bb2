"""Rigidity as the equations write it: form H, solve with numpy, atom by atom."""

import numpy as np

__all__ = [
    "augmented_qr",
    "group_means",
    "hessian",
    "mu_fraction",
    "prediction_rigidity",
    "sparse_kernel_rigidity",
    "svd_projected",
]


def hessian(rows, mu) -> np.ndarray:
    """H = R^T R + diag(mu)."""
    rows = np.asarray(rows, dtype=float)
    return rows.T @ rows + np.diag(np.broadcast_to(mu, (rows.shape[1],)).astype(float))


def prediction_rigidity(rows, gradients, mu) -> np.ndarray:
    """1 / g^T H^-1 g, one solve after the other."""
    h = hessian(rows, mu)
    return np.array([1 / (g @ np.linalg.solve(h, g)) for g in np.asarray(gradients, dtype=float)])


def mu_fraction(rows, gradients, mu) -> np.ndarray:
    """r = LPR v^T diag(mu) v with v = H^-1 g: share of the regulariser in each rigidity."""
    h, out = hessian(rows, mu), []
    for g in np.asarray(gradients, dtype=float):
        v = np.linalg.solve(h, g)
        out.append(np.sum(mu * v**2) / (g @ v))
    return np.array(out)


def svd_projected(rows, gradients, mu: float) -> np.ndarray:
    """1/LPR = sum (V^T g)^2/(s^2 + mu) + |g_perp|^2/mu, projecting twice (Kahan: enough)."""
    _, s, vt = np.linalg.svd(np.asarray(rows, dtype=float), full_matrices=False)
    out = []
    for g in np.asarray(gradients, dtype=float):
        inside = vt @ g
        rest = g - vt.T @ inside
        rest -= vt.T @ (vt @ rest)
        out.append(1 / (np.sum(inside**2 / (s**2 + mu)) + rest @ rest / mu))
    return np.array(out)


def augmented_qr(rows, gradients, mu) -> np.ndarray:
    """|T^-T g|^-2 with [R; sqrt(mu)] = Q T."""
    rows = np.asarray(rows, dtype=float)
    root = np.diag(np.sqrt(np.broadcast_to(mu, (rows.shape[1],))))
    triangle = np.linalg.qr(np.vstack([rows, root]), mode="r")
    half = np.linalg.solve(triangle.T, np.asarray(gradients, dtype=float).T)
    return 1 / np.sum(half**2, axis=0)


def sparse_kernel_rigidity(k_rows, k_atoms, k_inducing, mu: float) -> np.ndarray:
    """1 / k^T (K_NM^T K_NM + mu K_MM)^-1 k in the unwhitened weights."""
    h = np.asarray(k_rows).T @ np.asarray(k_rows) + mu * np.asarray(k_inducing)
    return np.array([1 / (k @ np.linalg.solve(h, k)) for k in np.asarray(k_atoms)])


def group_means(values, group) -> np.ndarray:
    """Mean of the values of each group, one loop turn a group."""
    values, group = np.asarray(values), np.asarray(group)
    return np.array([values[group == a].mean(axis=0) for a in range(group.max() + 1)])
