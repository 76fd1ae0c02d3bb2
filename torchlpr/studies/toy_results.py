"""What the toy study finds, as its figures and claims read it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from torchlpr.studies.toy_data import Floats

__all__ = ["Perturbation", "Rise"]


@dataclass(frozen=True)
class Perturbation:
    """A model before and after one local prediction was moved.

    Attributes:
        x: input whose prediction was moved.
        before: predictions on the grid.
        after: the same after re-training.
        locals: predictions of the training inputs before and after, shape (2, groups, inputs).
    """

    x: float
    before: Floats
    after: Floats
    locals: Floats

    @property
    def local_change(self) -> float:
        """Largest change of a local prediction on the grid, eV."""
        return float(np.abs(self.after - self.before).max())

    @property
    def total_change(self) -> float:
        """Root mean square change of the groups' predictions per input, eV."""
        means = self.locals.mean(2)
        return float(np.sqrt(np.square(means[1] - means[0]).mean()))


@dataclass(frozen=True)
class Rise:
    """Rise of the re-minimised loss with the shift.

    Attributes:
        shifts: eps, eV.
        rises: symmetrised, (dL(eps) + dL(-eps))/2, eV^2.
        full: rigidity with the full Hessian, 1/eV^2.
        gauss_newton: rigidity with the Gauss-Newton Hessian, 1/eV^2.
    """

    shifts: Floats
    rises: Floats
    full: float
    gauss_newton: float

    @property
    def curvatures(self) -> Floats:
        """Twice the rise over the square of the shift, 1/eV^2."""
        return np.asarray(2 * self.rises / self.shifts**2)
