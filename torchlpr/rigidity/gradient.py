r"""Derivatives of local prediction rigidities by features and positions.

.. math::
    \frac{\partial \mathrm{LPR}_k}{\partial x_k}
    = -2 \, \mathrm{LPR}_k^2 \, \frac{\partial}{\partial x_k} \left( v_k^\top g(x_k) \right),
    \qquad v_k = H^{-1} g_k \text{ held fixed}

and :math:`v^\top g(x)` is the derivative of the atomic energy along the weights v: one forward and
one backward differentiation, whatever the model. Source: derived here.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vmap

from torchlpr.curvature.factor import check_finite
from torchlpr.curvature.gradients import atomic_gradients, chunk_size, split_parameters
from torchlpr.curvature.subsets import Subset
from torchlpr.errors import InputError
from torchlpr.models import LinearInParameters
from torchlpr.rigidity.rigidity import Rigidity
from torchlpr.structures.batch import AtomBatch
from torchlpr.structures.derivative_products import pull_back

__all__ = ["rigidity_by_features", "rigidity_by_positions"]


def rigidity_by_features(
    rigidity: Rigidity, features: Tensor, types: Tensor, weights: Tensor
) -> Tensor:
    """Derivative of a weighted sum of rigidities by the features, at fixed H and model.

    Args:
        rigidity: of the trained model.
        features: shape (atoms, features).
        types: atomic numbers, shape (atoms,).
        weights: c_k of the sum of c_k LPR_k, shape (atoms,).

    Returns:
        c_k dLPR_k/dx_k, shape (atoms, features), float64, in eV^-2 per unit of feature.
    """
    model, subset = rigidity.model, rigidity.subset
    step = chunk_size(len(subset))
    parts = []
    for start in range(0, len(features), step):
        x = features[start : start + step].detach().to(torch.float64)
        z = types[start : start + step]
        g = check_finite("gradient", atomic_gradients(model, x, z, subset))
        v = rigidity.factor.solve(g)
        lpr = 1.0 / rigidity.factor.quadratic_form(g).value
        scale = -2 * lpr.square() * weights[start : start + step]
        parts.append(_along(model, subset, x, z, v) * scale[:, None])
    return torch.cat(parts) if parts else features.new_zeros(features.shape, dtype=torch.float64)


def rigidity_by_positions(
    rigidity: Rigidity, batch: AtomBatch, weights: Tensor | None = None
) -> Tensor:
    """Gradient of a weighted sum of local prediction rigidities by the positions.

    Uphill leads to environments that the training set knows, downhill away from them.

    Args:
        rigidity: of a model that is twice differentiable by features and weights.
        batch: any structures with derivatives (``descriptor(structures, derivatives=True)``).
        weights: c_k of the sum of c_k LPR_k, shape (atoms,); ones if None.

    Returns:
        1/(eV^2 Å), shape (atoms, 3), float64.

    Raises:
        InputError: if the batch has no derivatives, or weights are not as many as atoms.
    """
    if batch.derivatives is None:
        raise InputError(
            "gradients by positions need derivatives; describe the structures with derivatives=True"
        )
    c = torch.ones(len(batch), dtype=torch.float64) if weights is None else weights
    if tuple(c.shape) != (len(batch),):
        raise InputError(
            f"weights must have shape ({len(batch)},), one for each atom, not {tuple(c.shape)}"
        )
    c = c.to(batch.features.device)
    slopes = rigidity_by_features(rigidity, batch.features, batch.types, c)
    derivatives = batch.to(dtype=torch.float64).derivatives
    assert derivatives is not None  # those of the batch
    return pull_back(derivatives, slopes)


def _along(model: nn.Module, subset: Subset, x: Tensor, types: Tensor, v: Tensor) -> Tensor:
    """Derivative of v_k . g(x_k) by x_k, shape (atoms, features)."""
    if isinstance(model, LinearInParameters):
        with torch.enable_grad():
            moving = x.clone().requires_grad_(True)
            basis = subset.columns(model.basis(moving, types))
            return torch.autograd.grad((basis * v).sum(), moving)[0]
    fixed, weights = split_parameters(model, subset)
    blocks = zip(weights.items(), v.split([w.numel() for w in weights.values()], 1), strict=True)
    directions = {name: block.reshape(-1, *w.shape) for (name, w), block in blocks}
    out = torch.empty_like(x)
    for z in types.unique():  # a species at a time: vmap cannot branch on a batched type
        chosen = (types == z).nonzero().squeeze(1)
        one = z.reshape(1)

        def slope(atom: Tensor, along: dict[str, Tensor], one: Tensor = one) -> Tensor:
            def energy(w: dict[str, Tensor]) -> Tensor:
                local: Tensor = functional_call(model, {**fixed, **w}, (atom.unsqueeze(0), one))
                return local.squeeze(0)

            derivative: Tensor = jvp(energy, (weights,), (along,))[1]
            return derivative

        ours = {name: block[chosen] for name, block in directions.items()}
        out[chosen] = vmap(grad(slope))(x[chosen], ours)
    return out
