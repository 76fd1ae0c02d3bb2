r"""How rigidities change where atoms move, at the weights and with the training set as they are.

.. math:: \frac{\partial \mathrm{LPR}_k}{\partial r_i} = -2\, \mathrm{LPR}_k^2 \;
          v_k^\top \frac{\partial g_k}{\partial r_i}, \qquad v_k = H^{-1} g_k

and v_k . g_k(r) is the derivative of the atomic energy along v_k in weight space: one forward and
one backward pass, no matrix of second derivatives.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import functional_call, grad, jvp, vmap

from torchlpr.curvature import gradient_chunks
from torchlpr.curvature.gradients import split_parameters
from torchlpr.curvature.memory import fitting_chunk
from torchlpr.errors import InputError
from torchlpr.rigidity.rigidity import Rigidity
from torchlpr.structures.batch import AtomBatch
from torchlpr.structures.derivative_products import pull_back

__all__ = ["lpr_gradient"]


def lpr_gradient(
    rigidity: Rigidity, batch: AtomBatch, coefficients: Tensor | None = None
) -> Tensor:
    """Gradient of a sum of local prediction rigidities by the positions.

    Uphill leads to environments that the training set knows, downhill away from them.

    Args:
        rigidity: of a model that is twice differentiable by features and weights.
        batch: any structures with derivatives (``descriptor(structures, derivatives=True)``).
        coefficients: weight of each atom's LPR in the sum, shape (atoms,); ones if None.

    Returns:
        1/(eV^2 Å), shape (atoms, 3), float64.

    Raises:
        InputError: if the batch has no derivatives, or coefficients are not as many as atoms.
    """
    if batch.derivatives is None:
        raise InputError(
            "gradients by positions need derivatives; describe the structures with derivatives=True"
        )
    c = torch.ones(len(batch), dtype=torch.float64) if coefficients is None else coefficients
    if tuple(c.shape) != (len(batch),):
        raise InputError(
            f"coefficients must have shape ({len(batch)},), one for each atom, not {tuple(c.shape)}"
        )
    double = batch.to(dtype=torch.float64)
    slopes = torch.zeros_like(double.features)
    device = batch.features.device
    size = fitting_chunk(rigidity.factor, len(batch), rigidity.memory_limit, device)
    chunks = gradient_chunks(rigidity.model, double, size, rigidity.subset)
    for part, gradients in chunks:
        directions = rigidity.factor.solve(gradients)
        squares = (gradients * directions).sum(1).square()
        scale = -2 * c.to(squares)[part] / squares
        x, types = double.features[part], double.types[part]
        slopes[part] = scale.unsqueeze(1) * _slopes_along(rigidity, directions, x, types)
    assert double.derivatives is not None  # that of the batch
    return pull_back(double.derivatives, slopes)


def _slopes_along(rigidity: Rigidity, directions: Tensor, x: Tensor, types: Tensor) -> Tensor:
    """d(v_k . g_k)/dx_k of every atom, shape (atoms, features)."""
    fixed, weights = split_parameters(rigidity.model, rigidity.subset)
    sizes = [w.numel() for w in weights.values()]
    out = torch.zeros_like(x)
    for z in types.unique():  # a species at a time: a module may branch on it
        chosen = (types == z).nonzero().squeeze(1)
        one = z.reshape(1)

        def along(features: Tensor, direction: Tensor, one: Tensor = one) -> Tensor:
            def energy(w: dict[str, Tensor]) -> Tensor:
                arguments = (features.unsqueeze(0), one)
                local: Tensor = functional_call(rigidity.model, {**fixed, **w}, arguments)
                return local.squeeze(0)

            parts = zip(direction.split(sizes), weights.items(), strict=True)
            vector = {name: part.view_as(w) for part, (name, w) in parts}
            tangent: Tensor = jvp(energy, (weights,), (vector,))[1]
            return tangent

        out[chosen] = vmap(grad(along))(x[chosen], directions[chosen])
    return out
