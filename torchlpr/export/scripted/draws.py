r"""Draws of weights from N(w, H^-1): an ensemble whose variance is 1/LPR."""

import torch
from torch import Tensor

from torchlpr.curvature import Factor
from torchlpr.curvature.parameter_space import ParameterSpace
from torchlpr.models.triangular import solve_rows

__all__ = ["draw_weights"]


def draw_weights(factor: Factor, members: int, seed: int) -> Tensor:
    r"""Differences of weights with covariance H^-1.

    .. math::
        \delta = T^{-1} \xi \quad \text{where } H = T^\top T, \qquad
        \delta = H^{-1} (R^\top \xi + \mathrm{diag}(\sqrt\mu) \xi') \quad \text{in row space}

    Args:
        factor: in row space or parameter space.
        members: how many.
        seed: of the random numbers.

    Returns:
        Shape (members, parameters), float64.
    """
    generator = torch.Generator().manual_seed(seed)
    state = factor.state_dict()

    def normal(columns: int) -> Tensor:
        return torch.randn(members, columns, dtype=torch.float64, generator=generator)

    if isinstance(factor, ParameterSpace):
        return solve_rows(state["triangle"].mT, normal(factor.n_parameters), upper=False)
    rows = normal(factor.n_rows) @ state["rows"]
    return factor.solve(rows + normal(factor.n_parameters) * state["mu"].sqrt())
