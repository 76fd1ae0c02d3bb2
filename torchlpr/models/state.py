"""Models as plain data: settings and tensors in, the same model out."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from torchlpr.errors import InputError
from torchlpr.models.kernel import SparseKernelModel
from torchlpr.models.linear import LinearModel
from torchlpr.models.mlp import BehlerParrinelloMLP
from torchlpr.structures.batch import AtomBatch

__all__ = ["architecture", "load_model", "model_state"]

DTYPES = {"float64": torch.float64, "float32": torch.float32}


def architecture(model: nn.Module) -> str:
    """What a model computes beside its weights: networks that differ in it have equal shapes.

    Args:
        model: any module.

    Returns:
        Its class, layers and settings in words.
    """
    words = f"{type(model).__qualname__} {model}"
    if isinstance(model, (BehlerParrinelloMLP, LinearModel)):
        words += f" {model.settings()}"
    if isinstance(model, SparseKernelModel):
        words += f" zeta={model.zeta}"
    return words


def model_state(model: nn.Module) -> dict[str, Any]:
    """Everything that rebuilds one of torchlpr's models.

    Args:
        model: network, linear or sparse-kernel head.

    Returns:
        Kind, settings, dtype and weights.

    Raises:
        InputError: if the model is of another class.
    """
    state: dict[str, Any] = {
        "kind": type(model).__name__,
        "dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
    }
    if isinstance(model, SparseKernelModel):
        inducing = model.inducing_batch()
        return state | {
            "zeta": model.zeta,
            "inducing_features": inducing.features,
            "inducing_types": inducing.types,
            "weight": model.weight.detach(),
        }
    if isinstance(model, (BehlerParrinelloMLP, LinearModel)):
        return state | {"settings": model.settings(), "weights": model.state_dict()}
    raise InputError(
        f"a {type(model).__name__} cannot be saved by torchlpr, which knows its own three heads; "
        "keep the model with torch.save and build the Rigidity from it again"
    )


def load_model(state: dict[str, Any]) -> nn.Module:
    """Rebuild a model.

    Args:
        state: as :func:`model_state` gave it.

    Returns:
        The model with its weights, in the dtype it was saved in.

    Raises:
        InputError: if the kind of model is unknown.
    """
    kind, dtype = state["kind"], DTYPES[state["dtype"]]
    if kind == "SparseKernelModel":
        features = state["inducing_features"]
        inducing = AtomBatch(features, state["inducing_types"], torch.arange(len(features)))
        kernel = SparseKernelModel(inducing, state["zeta"], dtype)
        with torch.no_grad():
            kernel.weight.copy_(state["weight"])
        return kernel
    classes: dict[str, type[nn.Module]] = {
        "BehlerParrinelloMLP": BehlerParrinelloMLP,
        "LinearModel": LinearModel,
    }
    if kind not in classes:
        raise InputError(f"this file holds a {kind}, which this torchlpr does not know; update it")
    model = classes[kind](**state["settings"], dtype=dtype)
    model.load_state_dict(state["weights"])
    return model
