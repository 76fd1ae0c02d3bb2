"""SevenNet potentials (Park et al., J. Chem. Theory Comput. 20, 4857 (2024)) of sevenn.

The weights of SevenNet-0 ship inside the package: nothing is downloaded.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import ase
import torch
from torch import Tensor, nn

from torchlpr.errors import InputError
from torchlpr.extras import require
from torchlpr.potentials.e3nn_species import element_spans
from torchlpr.potentials.protocol import check_elements

__all__ = ["SevenNetPotential"]


class SevenNetPotential(nn.Module):
    """Atomic energies of a SevenNet, shift and scale of each element included.

    Shift and scale are frozen parameters unless they were trained, and take no part in rigidities
    then. "last-layer" are the weights of the linear map from hidden features to an energy.

    Args:
        model: a module of ``sevenn``, a checkpoint file, or the name of a pretrained potential;
            "7net-0" ships inside the package, and others may be downloaded by sevenn.
        modal: which of several fidelities, where the potential has them.

    Raises:
        InputError: if it is no such model, or the modal is missing.
    """

    batched_gradients = False
    last_layer = ("model.reduce_hidden_to_energy.*",)

    def __init__(self, model: str | nn.Module = "7net-0", modal: str | None = None) -> None:
        super().__init__()
        loaded: Any = copy.deepcopy(model) if isinstance(model, nn.Module) else _load(str(model))
        if not getattr(loaded, "type_map", None) or not hasattr(loaded, "delete_module_by_key"):
            raise InputError(
                f"a {type(loaded).__name__} is no SevenNet (it has no type_map); give the module "
                "that sevenn built, the file of a checkpoint, or '7net-0'"
            )
        modals = list(getattr(loaded, "modal_map", None) or {})
        if modals and modal not in modals:
            raise InputError(f"this SevenNet has the modals {', '.join(modals)}; choose one")
        loaded.delete_module_by_key("force_output")  # forces are not asked for
        loaded.key_grad = None
        loaded.set_is_batch_data(False)
        # its one-hot vectors are float32 whatever the weights are
        loaded.onehot_idx_to_onehot.register_forward_hook(_in_dtype_of_vectors)
        self.model, self.modal = loaded, modal if modals else None

    @property
    def types(self) -> list[int]:
        """Atomic numbers of the elements, in the order of the model."""
        places: dict[int, int] = self.model.type_map
        return sorted(places, key=lambda z: places[z])

    def batch(self, structures: Sequence[ase.Atoms]) -> list[Any]:
        """One graph a structure, in the dtype and on the device of the weights.

        Args:
            structures: of elements that it knows.

        Returns:
            The graphs.
        """
        check_elements(structures, self.types, self)
        graphs = require("sevenn.atom_graph_data", "sevennet")
        build = require("sevenn.train.dataload", "sevennet").unlabeled_atoms_to_graph
        weight = next(self.model.parameters())
        found = []
        for atoms in structures:
            arrays = build(atoms, self.model.cutoff, with_shift=False)
            tensors = {
                key: _tensor(value, weight) for key, value in arrays.items() if key != "data_info"
            }
            graph = graphs.AtomGraphData(**tensors)
            if self.modal is not None:
                graph["data_modality"] = self.modal
            found.append(graph)
        return found

    def local_energies(self, batch: Sequence[Any]) -> Tensor:
        """Atomic energies in eV, shape (atoms,)."""
        parts = [self._forward(graph)["atomic_energy"].reshape(-1) for graph in batch]
        return torch.cat(parts)

    def energies(self, batch: Sequence[Any]) -> Tensor:
        """Total energies in eV, shape (structures,)."""
        parts = [self._forward(graph)["inferred_total_energy"].reshape(1) for graph in batch]
        return torch.cat(parts)

    def species_spans(self, z: int, spans: Mapping[str, tuple[int, int]]) -> list[tuple[int, int]]:
        """Weights that act on one element alone.

        Args:
            z: atomic number.
            spans: span of every named parameter.

        Returns:
            Spans in the vector of all weights.
        """
        return element_spans(self, z, self.types, spans)

    def _forward(self, graph: Any) -> Any:
        return self.model(graph.clone())  # it writes into the graph


def _load(name: str) -> nn.Module:
    util = require("sevenn.util", "sevennet")
    try:
        model: nn.Module = util.load_checkpoint(name).build_model()
    except (ValueError, FileNotFoundError) as error:
        raise InputError(
            f"sevenn has no potential {name!r}; give '7net-0' or the file of a checkpoint"
        ) from error
    return model


def _tensor(value: Any, like: Tensor) -> Tensor:
    tensor = torch.as_tensor(value).to(like.device)
    return tensor.to(like.dtype) if tensor.is_floating_point() else tensor.long()


def _in_dtype_of_vectors(module: nn.Module, args: tuple[Any, ...], out: Any) -> Any:
    dtype = out["edge_vec"].dtype
    for key, value in list(out.items()):
        if isinstance(value, Tensor) and value.is_floating_point():
            out[key] = value.to(dtype)
    return out
