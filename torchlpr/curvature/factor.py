"""The two-phase protocol of the Gauss-Newton Hessian H = R^T R + diag(mu): build, then evaluate."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from torchlpr.errors import InputError

if TYPE_CHECKING:
    from torchlpr.curvature.spectrum import Spectrum

__all__ = [
    "Factor",
    "QuadraticForm",
    "UpdatableFactor",
    "check_finite",
    "qr_triangle",
    "regulariser_vector",
    "solve_vector",
]


class QuadraticForm(NamedTuple):
    """g^T H^-1 g and the share of the regulariser in it.

    Attributes:
        value: g^T H^-1 g = 1/LPR, shape (K,), eV^2.
        regulariser: v^T diag(mu) v with v = H^-1 g, shape (K,), eV^2.
    """

    value: Tensor
    regulariser: Tensor


class Factor(Protocol):
    """A factorised H = R^T R + diag(mu), R of shape (M, P)."""

    shape_name: str
    n_rows: int
    n_parameters: int

    def quadratic_form(self, gradients: Tensor) -> QuadraticForm:
        """g^T H^-1 g of every gradient, shape (K, P) to (K,)."""

    def solve(self, vectors: Tensor) -> Tensor:
        """H^-1 v of every vector, shape (K, P) to (K, P)."""

    def effective_dof(self) -> float:
        """tr(H^-1 R^T R): the number of parameters that the rows determine."""

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors from which :func:`torchlpr.curvature.load_factor` rebuilds the factor."""


def solve_vector(factor: Factor, vector: Tensor) -> Tensor:
    """H^-1 v of one vector.

    Args:
        factor: of H.
        vector: shape (P,), float64.

    Returns:
        Shape (P,).
    """
    return factor.solve(vector.unsqueeze(0)).squeeze(0)


@runtime_checkable
class UpdatableFactor(Factor, Protocol):
    """A factor that takes rows in and out, and serves other strengths of the regulariser."""

    def update(self, rows: Tensor) -> UpdatableFactor:
        """The factor of H + B^T B, B of shape (k, P); this one stays as it is."""

    def downdate(self, rows: Tensor) -> UpdatableFactor:
        """The factor of H - B^T B, rows B that went in; refused where digits would be lost."""

    def spectrum(self) -> Spectrum:
        """The decomposition that serves any number of mu."""

    def at(self, mu: float) -> UpdatableFactor:
        """The factor of the same rows at another mu (times the vector mu, where it is one)."""


def regulariser_vector(mu: float | Tensor, like: Tensor) -> Tensor:
    """Mu as a float64 tensor of shape () or (P,), checked.

    Args:
        mu: strength of the L2 term, one for all weights or one for each; entries of a vector
            may be zero (an unregularised weight, such as an intercept).
        like: rows, shape (M, P), which give the device and P.

    Returns:
        Tensor of shape () or (P,).

    Raises:
        InputError: if mu has a wrong shape or is negative, not finite, or zero as a whole.
    """
    value = torch.as_tensor(mu, dtype=torch.float64, device=like.device)
    if value.shape not in {torch.Size([]), torch.Size([like.shape[1]])}:
        raise InputError(
            f"mu must be a number or have one entry for each of the {like.shape[1]} parameters, "
            f"not shape {tuple(value.shape)}"
        )
    if not bool(torch.isfinite(value).all()) or bool((value < 0).any()):
        raise InputError("mu must be finite and not negative")
    if not bool((value > 0).any()):
        raise InputError(
            "mu is zero: weights that no row determines would have no rigidity; "
            "give a positive mu, however small"
        )
    return value


def check_finite(name: str, matrix: Tensor) -> Tensor:
    """The matrix in float64, or an error naming its first row that is not finite.

    Args:
        name: what the rows are, for the message.
        matrix: shape (K, P).

    Returns:
        The matrix in float64.

    Raises:
        InputError: if it is not a matrix, or holds NaN or infinity.
    """
    if matrix.ndim != 2:
        raise InputError(f"{name} must be a matrix (one a row), not of shape {tuple(matrix.shape)}")
    finite = torch.isfinite(matrix.sum(dim=1))  # one pass, and nothing as large as the matrix
    if not bool(finite.all()):
        raise InputError(
            f"{name} {int((~finite).nonzero()[0])} is not finite; "
            "look at the features and at the weights of the model"
        )
    return matrix.to(torch.float64)


def qr_triangle(*blocks: Tensor) -> Tensor:
    """Triangle T of the QR factorisation of stacked blocks, so that T^T T = sum of block^T block.

    Args:
        *blocks: matrices with P columns each.

    Returns:
        Upper triangle, shape (min(rows, P), P).
    """
    stacked = torch.cat(blocks)
    # without Q the factorisation has no derivative
    mode = "reduced" if stacked.requires_grad else "r"
    return torch.linalg.qr(stacked, mode=mode).R
