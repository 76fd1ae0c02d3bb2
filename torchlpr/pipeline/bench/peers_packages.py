"""Adapters of other packages; each is imported where it is used."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from torchlpr.pipeline.bench.methods import (
    Method,
    by_products,
    import_peer,
    parameter_space,
    row_space,
)
from torchlpr.pipeline.bench.peers_torch import (
    CHUNK_BYTES,
    Cholesky,
    RowSystem,
    cholesky_of_rows,
    per_atom,
    row_system,
)
from torchlpr.pipeline.bench.problem import Problem
from torchlpr.structures.batch import AtomBatch

__all__ = ["PACKAGE_PEERS", "StructureMean"]

CURVLINOPS = "curvlinops", "curvlinops-for-pytorch"
BLOCK = 8  # outputs that one Jacobian operator holds: its work grows with their square


class StructureMean(nn.Module):
    """Mean energy of structures, (structures, atoms, features) to (structures, 1).

    The mean is taken before the last layer, which is linear: the last layer is then a module at
    the end, where these packages look for it.

    Args:
        network: of one atom; a copy is kept.
    """

    def __init__(self, network: nn.Sequential) -> None:
        super().__init__()
        layers = nn.Sequential(*map(_plain, network))
        self.body, self.head = layers[:-1], layers[-1]

    def forward(self, x: Tensor) -> Tensor:
        """Mean energies."""
        return self.head(self.body(x).mean(dim=1))


def _plain(layer: nn.Module) -> nn.Module:
    """A copy; of a linear layer one of torch's own class, the only one that BackPACK extends."""
    if not isinstance(layer, nn.Linear):
        return copy.deepcopy(layer)
    shape, like = (layer.in_features, layer.out_features), layer.weight
    linear = nn.Linear(*shape, layer.bias is not None, device=like.device, dtype=like.dtype)
    linear.load_state_dict(layer.state_dict())
    return linear


def _curvlinops_jacobian(model: nn.Module, x: Tensor) -> Tensor:
    module = import_peer(*CURVLINOPS)
    weights, blocks = list(model.parameters()), []
    for part in x.split(BLOCK):
        operator = module.TransposedJacobianLinearOperator(
            model, weights, [(part, part)], check_deterministic=False, num_data=len(part)
        )
        unit = torch.eye(len(part), dtype=x.dtype, device=x.device)
        blocks.append((operator @ unit).mT)
    return torch.cat(blocks)


def _curvlinops_build(problem: Problem) -> Cholesky:
    model = StructureMean(problem.network)
    return cholesky_of_rows(model, _curvlinops_jacobian(model, problem.cells), problem.mu)


def _curvlinops_evaluate(state: Cholesky, batch: AtomBatch) -> Tensor:
    chunks = per_atom(len(state.lower), batch)
    return torch.cat([
        state.rigidities(_curvlinops_jacobian(state.network, x.unsqueeze(1))) for x in chunks
    ])


def _curvlinops_ggn(problem: Problem) -> Cholesky:
    module = import_peer(*CURVLINOPS)
    model, x = StructureMean(problem.network), problem.cells
    data = [(x, x.new_zeros(len(x), 1))]
    operator = module.GGNLinearOperator(
        model,
        nn.MSELoss(reduction="sum"),
        list(model.parameters()),
        data,
        check_deterministic=False,
        num_data=len(x),
    )
    n = problem.point.parameters
    columns = torch.eye(n, dtype=x.dtype, device=x.device).split(_columns(problem), dim=1)
    # the second derivative of the squared error is 2
    hessian = torch.cat([operator @ block for block in columns], dim=1) / 2
    hessian.diagonal().add_(problem.mu)
    return Cholesky(model, torch.linalg.cholesky(hessian))


def _columns(problem: Problem) -> int:
    """Columns that one product takes: all activations are held once for each."""
    point = problem.point
    each = 8 * point.structures * point.atoms * max((*point.hidden, 1))
    return max(1, CHUNK_BYTES // each)


def _backpack_jacobian(model: nn.Module, x: Tensor) -> Tensor:
    module = import_peer("backpack", "backpack-for-pytorch")
    extensions = import_peer("backpack.extensions", "backpack-for-pytorch")
    model.zero_grad()
    with module.backpack(extensions.BatchGrad()):
        model(x).sum().backward()
    weights: list[Any] = list(model.parameters())
    blocks = [p.grad_batch.flatten(1) for p in weights]
    for p in weights:
        del p.grad_batch
    return torch.cat(blocks, dim=1)


def _backpack_build(problem: Problem) -> RowSystem:
    module = import_peer("backpack", "backpack-for-pytorch")
    model = module.extend(StructureMean(problem.network))
    return row_system(model, _backpack_jacobian(model, problem.cells), problem.mu)


def _backpack_evaluate(state: RowSystem, batch: AtomBatch) -> Tensor:
    chunks = per_atom(state.rows.shape[1], batch)
    return torch.cat([
        state.rigidities(_backpack_jacobian(state.network, x.unsqueeze(1))) for x in chunks
    ])


def _laplace(backend: str) -> tuple[Callable[[Problem], Any], Callable[[Any, AtomBatch], Tensor]]:
    """Build and evaluate by laplace-torch's full Laplace approximation."""

    def build(problem: Problem) -> Any:
        laplace = import_peer("laplace", "laplace-torch")
        curvature = import_peer("laplace.curvature", "laplace-torch")
        if not hasattr(curvature, backend):
            import_peer(
                {"AsdlGGN": "asdl", "AsdfghjklGGN": "asdfghjkl"}.get(backend, "backpack"),
                "laplace-torch with its backends",
            )
        x = problem.cells
        # its curvlinops backend multiplies with all unit vectors at once, for a batch of data
        held = CHUNK_BYTES // 8 // (problem.point.parameters * x.shape[1])
        size = max(1, held // max((*problem.point.hidden, 1)))
        data = torch.utils.data.TensorDataset(x, x.new_zeros(len(x), 1))
        loader = torch.utils.data.DataLoader(
            data, batch_size=min(len(x), size) if backend == "CurvlinopsGGN" else len(x)
        )
        default = torch.get_default_dtype()
        torch.set_default_dtype(x.dtype)  # it makes its unit vectors in the default dtype
        try:
            approximation = laplace.Laplace(
                StructureMean(problem.network),
                "regression",
                subset_of_weights="all",
                hessian_structure="full",
                sigma_noise=1.0,
                prior_precision=problem.mu,
                backend=getattr(curvature, backend),
            )
            approximation.fit(loader)
        finally:
            torch.set_default_dtype(default)
        return approximation

    def evaluate(approximation: Any, batch: AtomBatch) -> Tensor:
        # it forms the covariance again at every call: few large ones are best
        parts = batch.features.split(max(1, 4 * CHUNK_BYTES // (8 * approximation.n_params)))
        forms = [approximation(x.unsqueeze(1), pred_type="glm")[1].reshape(-1) for x in parts]
        return 1 / torch.cat(forms).detach()

    return build, evaluate


def _scikit_matter(state: Problem, batch: AtomBatch) -> Tensor:
    metrics = import_peer("skmatter.metrics", "skmatter")
    train = list(state.cells.cpu().numpy())
    # it scales features by s = sqrt(mean |x|^2): its alpha is mu/s^2
    scale = float(state.train.features.square().sum(1).mean())
    values, _ = metrics.local_prediction_rigidity(
        train, [batch.features.cpu().numpy()], state.mu / scale
    )
    return torch.from_numpy(values[0])


def _skmatter_build(problem: Problem) -> Problem:
    import_peer("skmatter.metrics", "skmatter")
    return problem


PACKAGE_PEERS = (
    Method("BackPACK row", _backpack_build, _backpack_evaluate, row_space),
    Method("curvlinops Jacobian", _curvlinops_build, _curvlinops_evaluate, parameter_space),
    Method("curvlinops GGN", _curvlinops_ggn, _curvlinops_evaluate, by_products),
    Method("laplace-torch BackPACK", *_laplace("BackPackGGN"), parameter_space),
    Method("laplace-torch torch.func", *_laplace("GGNInterface"), parameter_space),
    Method("laplace-torch curvlinops", *_laplace("CurvlinopsGGN"), by_products),
    Method("laplace-torch ASDL", *_laplace("AsdlGGN"), parameter_space),
    Method(
        "scikit-matter",
        _skmatter_build,
        _scikit_matter,
        parameter_space,
        one_call=True,
        linear_only=True,
    ),
)
