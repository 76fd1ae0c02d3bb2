"""Sparse kernel head: subset of regressors on SOAP kernels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from torchlpr.errors import InputError
from torchlpr.models.linear import LinearInParameters
from torchlpr.models.triangular import solve_rows
from torchlpr.structures.batch import AtomBatch
from torchlpr.structures.species import atoms_of_each_type, in_atom_order

__all__ = ["SparseKernelModel"]


class SparseKernelModel(LinearInParameters):
    r"""Sparse kernel model (subset of regressors) with a polynomial SOAP kernel.

    .. math:: \tilde y(x) = \sum_j k(x, x_j) c_j, \qquad k(x, x') = \delta_{zz'} (x \cdot x')^\zeta

    with the regulariser 1/2 mu c^T K_MM c. The parameters are the whitened weights w = L^T c
    where K_MM = L L^T: in them the regulariser is the plain 1/2 mu |w|^2 and the basis is
    phi(x) = L^-1 k_M(x), so every tool that knows L2 knows this model.

    Source: Deringer et al., Chem. Rev. 121, 10073 (2021); Bartok, Kondor and Csanyi,
    Phys. Rev. B 87, 184115 (2013).

    Args:
        inducing: batch of inducing (reference) environments; its ``structure`` plays no part.
        zeta: exponent of the kernel, a positive integer.
        dtype: floating-point type of the weights.

    Raises:
        InputError: if zeta is no positive integer, or K_MM is not positive definite in floating
            point because inducing environments are (nearly) linearly dependent.
    """

    def __init__(
        self, inducing: AtomBatch, zeta: int = 2, dtype: torch.dtype = torch.float64
    ) -> None:
        super().__init__()
        if int(zeta) != zeta or zeta < 1:
            raise InputError(f"zeta must be a positive integer, not {zeta}")
        if not len(inducing):
            raise InputError("a sparse kernel model needs at least one inducing environment")
        self.zeta = int(zeta)
        self.n_features = inducing.features.shape[1]
        self.types = tuple(sorted(set(inducing.types.tolist())))
        for z in self.types:
            points = inducing.features[inducing.types == z].to(torch.float64)
            self.register_buffer(f"inducing_{z}", points)
            self.register_buffer(f"cholesky_{z}", _cholesky(self.kernel(points, points), z))
        self.weight = nn.Parameter(
            torch.zeros(len(inducing), dtype=dtype, device=inducing.features.device)
        )

    def kernel(self, a: Tensor, b: Tensor) -> Tensor:
        """Kernel (a . b)^zeta between environments of one species, shape (len(a), len(b))."""
        return (a @ b.mT) ** self.zeta

    def basis(self, features: Tensor, types: Tensor) -> Tensor:
        """Whitened kernels phi = L^-1 k_M(x) in the block of the atom's species, in float64.

        Args:
            features: shape (atoms, features).
            types: atomic numbers, shape (atoms,).

        Returns:
            Shape (atoms, inducing environments).
        """
        groups, parts, before = atoms_of_each_type(types, self.types), [], 0
        for z, group in zip(self.types, groups, strict=True):
            points = self.get_buffer(f"inducing_{z}").to(torch.float64)
            cholesky = self.get_buffer(f"cholesky_{z}").to(torch.float64)
            k = self.kernel(features[group].to(points), points)  # [atom, inducing]
            phi = solve_rows(cholesky.mT, k, upper=True)
            after = self.weight.numel() - before - phi.shape[-1]
            parts.append(nn.functional.pad(phi, (before, after)))
            before += phi.shape[-1]
        return in_atom_order(parts, groups)

    def kernel_weights(self) -> dict[int, Tensor]:
        """Weights c of the kernels, from w = L^T c: {atomic number: shape (inducing,)}."""
        weights, before = {}, 0
        for z in self.types:
            cholesky = self.get_buffer(f"cholesky_{z}")
            w = self.weight[before : before + len(cholesky)].to(cholesky)
            weights[z] = torch.linalg.solve_triangular(
                cholesky.mT, w.unsqueeze(1), upper=True
            ).squeeze(1)
            before += len(cholesky)
        return weights

    def inducing_batch(self) -> AtomBatch:
        """The inducing environments, species by species, each as a structure of its own."""
        points = [self.get_buffer(f"inducing_{z}") for z in self.types]
        types = [
            torch.full((len(p),), z, device=p.device)
            for z, p in zip(self.types, points, strict=True)
        ]
        features = torch.cat(points)
        return AtomBatch(
            features, torch.cat(types), torch.arange(len(features), device=features.device)
        )


def _cholesky(kernel: Tensor, z: int) -> Tensor:
    """Factor K_MM without any jitter, or say how many inducing points are independent."""
    factor, info = torch.linalg.cholesky_ex(kernel)
    if int(info):
        eigenvalues = torch.linalg.eigvalsh(kernel)
        rank = int((eigenvalues > len(kernel) * 2.3e-16 * eigenvalues[-1]).sum())
        raise InputError(
            f"K_MM of the {len(kernel)} inducing environments of species {z} is singular in "
            f"floating point (pivot {int(info)}, about {rank} are independent); take at most "
            f"{rank} by farthest-point sampling, without duplicates"
        )
    return factor
