"""scikit-matter's published implementation (linear and kernel models)."""

import numpy as np

__all__ = ["local_prediction_rigidity"]


def local_prediction_rigidity(train, test, mu: float) -> np.ndarray:
    """Rigidity of every test environment for ridge strength mu in unscaled features.

    scikit-matter divides features by s = sqrt(mean |x|^2) and adds alpha there: mu = alpha s^2.
    """
    from skmatter.metrics import local_prediction_rigidity as published

    scale = np.mean(np.sum(np.vstack(train) ** 2, axis=1))
    rigidity, _ = published(train, test, mu / scale)
    return np.concatenate(rigidity)
