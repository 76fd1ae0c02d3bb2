"""laplace-torch: variance of the linearised predictive distribution, 1/LPR at unit noise."""

import warnings
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

__all__ = ["glm_variance", "import_laplace", "log_evidence"]


class StructureMean(nn.Module):
    """Mean atomic energy of each structure: (structures, atoms, features) to (structures, 1)."""

    def __init__(self, atomic: nn.Sequential) -> None:
        super().__init__()
        self.body, self.head = atomic[:-1], atomic[-1]

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).mean(dim=1))


def import_laplace() -> ModuleType:
    """The package, or a skip: it warns of deprecated torch functions when imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("laplace", reason="laplace-torch is not installed")


def glm_variance(atomic: nn.Sequential, train: Tensor, test: Tensor, mu: float, subset: str):
    """Predictive variance of each test atom.

    Args:
        atomic: network of one atom ending in a linear layer without bias.
        train: structures of equal size, shape (structures, atoms, features).
        test: atoms, shape (atoms, features).
        mu: prior precision; the observation noise is one.
        subset: "all" weights or "last_layer".
    """
    laplace = import_laplace()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from laplace.curvature import GGNInterface

        data = torch.utils.data.TensorDataset(train, train.new_zeros(len(train), 1))
        options = {"last_layer_name": "head"} if subset == "last_layer" else {}
        approximation = laplace.Laplace(
            StructureMean(atomic),
            "regression",
            subset_of_weights=subset,
            hessian_structure="full",
            sigma_noise=1.0,
            prior_precision=mu,
            backend=GGNInterface,
            **options,
        )
        approximation.fit(torch.utils.data.DataLoader(data, batch_size=4))
        _, variance = approximation(test.unsqueeze(1), pred_type="glm")
    return variance.detach().reshape(-1)


def log_evidence(
    atomic: nn.Sequential, train: Tensor, targets: Tensor, mu: float, sigma: float
) -> float:
    """Laplace's ln p(targets) at the network's weights, with the Gauss-Newton Hessian.

    Args:
        atomic: network of one atom ending in a linear layer without bias.
        train: structures of equal size, shape (structures, atoms, features).
        targets: energies per atom, shape (structures,).
        mu: the prior precision is mu/sigma^2.
        sigma: standard deviation of the noise.
    """
    laplace = import_laplace()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from laplace.curvature import GGNInterface

        data = torch.utils.data.TensorDataset(train, targets.unsqueeze(1))
        approximation = laplace.Laplace(
            StructureMean(atomic),
            "regression",
            subset_of_weights="all",
            hessian_structure="full",
            sigma_noise=sigma,
            prior_precision=mu / sigma**2,
            backend=GGNInterface,
        )
        approximation.fit(torch.utils.data.DataLoader(data, batch_size=4))
        return float(approximation.log_marginal_likelihood())
