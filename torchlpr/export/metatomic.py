"""A run as a metatomic model: one file that ASE, LAMMPS, i-PI and others run."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from torchlpr.curvature.gradients import CHUNK_BYTES, chunk_size
from torchlpr.curvature.parameter_space import ParameterSpace
from torchlpr.curvature.row_space import RowSpace
from torchlpr.descriptors.soap import SOAP
from torchlpr.errors import InputError
from torchlpr.export.run import Run, checkpoint_of
from torchlpr.files import atomic_path
from torchlpr.models import BehlerParrinelloMLP, LinearModel, SparseKernelModel

if TYPE_CHECKING:
    from torchlpr.export.scripted.folding import Folding, Segment

__all__ = ["MEMBERS", "export_metatomic"]

MEMBERS = 32
RIGIDITY_PAPER = "https://doi.org/10.1021/acs.jctc.3c00704"
SOAP_PAPER = "https://doi.org/10.1103/PhysRevB.87.184115"
SYMMETRY_PAPER = "https://doi.org/10.1103/PhysRevLett.98.146401"


def export_metatomic(
    run: str | Path | Run,
    path: str | Path,
    *,
    extensions: str | Path | None = None,
    rigidity: bool = True,
    members: int = MEMBERS,
    seed: int = 0,
    chunk: int | None = None,
    tolerance: float = 0.0,
) -> Any:
    r"""Write a run as a metatomic model, which needs no Python to run.

    Outputs, each computed only when an engine asks for it, in float64:

    - ``energy`` of systems or atoms, eV; forces and stress by differentiation;
    - ``torchlpr::local_prediction_rigidity`` of atoms, eV^-2, exact: from the rows or the factor of
      the run's :class:`torchlpr.Rigidity`, by the same formulas; infinite for an atom that no
      weight moves;
    - ``torchlpr::mu_fraction`` of atoms: the regulariser's share in it;
    - ``energy_uncertainty`` of systems or atoms, eV, where the run is calibrated:
      :math:`\alpha \sqrt{g^\top H^{-1} g}`, of an atom :math:`\alpha / \sqrt{\mathrm{LPR}}`, where
      the gradient of a system is the sum of its atoms'; groups of the calibration play no part;
    - ``energy_ensemble`` of systems or atoms, eV: first-order energies
      :math:`\tilde y_k + \alpha g_k^\top H^{-1/2} \xi_b` of weights drawn once from N(w, H^-1), so
      that the variance of an atom is alpha^2/LPR; alpha is 1 eV where the run is not calibrated.

    ``metatomic_ase.MetatomicCalculator`` asks a calibrated model for the uncertainty of every atom
    with every energy; ``uncertainty_threshold=None`` switches that off. A run of float32 weights
    is evaluated in float64, so that energies differ from :meth:`Run.predict` by the rounding of
    float32.

    Args:
        run: folder that ``torchlpr fit`` wrote, its checkpoint file, or an open run.
        path: the file to write, whole or not at all; it ends in ``.pt``.
        extensions: folder to copy the libraries to that the model needs (featomic's), for
            engines without them; None copies none. It is emptied first.
        rigidity: False leaves only ``energy``, and a much smaller file.
        members: how many draws the ensemble has; 0 leaves it out.
        seed: of the draws.
        chunk: atoms whose gradients are held at a time, by default what fits into 30 MiB.
        tolerance: largest relative error of rigidities that may be traded for speed; 0 is exact.
            In row space directions with s_i^2 <= tolerance mu are left out, s_i the singular
            values of the training rows: then LPR/(1 + tolerance) <= output <= LPR for every atom.

    Returns:
        The ``metatomic.torch.AtomisticModel`` that was written.

    Raises:
        InputError: if the model is none of torchlpr's heads, the rigidity is in no exact shape, or
            a folder to be emptied holds something else than libraries.
    """
    opened, name = _opened(run)
    target = Path(path)
    if target.suffix != ".pt":
        raise InputError(f"{path} must end in .pt; choose another name")
    if members < 0 or (chunk is not None and chunk < 1):
        raise InputError(f"members={members} must not be negative, nor chunk={chunk} below one")
    if not 0 <= tolerance < 1:
        raise InputError(f"tolerance must be from 0 to below 1, not {tolerance}")
    _check_folder(extensions)
    from metatomic.torch import AtomisticModel

    module = scripted_model(opened, rigidity, members, seed, chunk, tolerance)
    with _without_deprecations():
        model = AtomisticModel(
            module.eval(), _metadata(opened, name), _capabilities(opened, rigidity, members)
        )
        with atomic_path(target) as temporary:
            model.save(temporary, None if extensions is None else str(extensions))
    return model


def scripted_model(
    run: Run,
    rigidity: bool = True,
    members: int = MEMBERS,
    seed: int = 0,
    chunk: int | None = None,
    tolerance: float = 0.0,
) -> nn.Module:
    """The module inside the metatomic model, before it is compiled.

    Args:
        run: the run.
        rigidity: whether it can compute rigidities.
        members: of the ensemble.
        seed: of the draws.
        chunk: atoms whose gradients are held at a time; None takes what fits into 30 MiB.
        tolerance: largest relative error of rigidities.

    Returns:
        The module.

    Raises:
        InputError: if the run cannot be exported.
    """
    from torchlpr.export.scripted.draws import draw_weights
    from torchlpr.export.scripted.factors import NoForms
    from torchlpr.export.scripted.folding import segments
    from torchlpr.export.scripted.heads import scripted_head
    from torchlpr.export.scripted.model import ScriptedModel

    model, subset = run.rigidity.model, run.rigidity.subset
    if not isinstance(model, (BehlerParrinelloMLP, LinearModel, SparseKernelModel)):
        raise InputError(
            f"a {type(model).__name__} cannot be exported, only torchlpr's three heads"
        )
    descriptor, folding = _descriptor(run)
    parts = segments(model, subset)
    head = scripted_head(model, subset, folding)
    forms: nn.Module = NoForms()
    draws = torch.zeros(0, head.n_parameters, dtype=torch.float64)
    if rigidity:
        forms = _forms(run, folding, parts, tolerance)
        draws = folding.vectors(draw_weights(run.rigidity.factor, members, seed), parts)
    constants = dict(zip(run.baseline.types, run.baseline.energies.tolist(), strict=True))
    return ScriptedModel(
        descriptor,
        head,
        forms,
        torch.tensor(model.types),
        torch.tensor([constants[z] for z in model.types], dtype=torch.float64),
        1.0 if run.calibration is None else run.calibration.alpha.value,
        draws,
        chunk or chunk_size(head.n_parameters, CHUNK_BYTES),
    )


def _descriptor(run: Run) -> tuple[nn.Module, Folding]:
    """The twin of the descriptor, and what it leaves out."""
    from torchlpr.export.scripted.folding import Folding, Unfolded

    if isinstance(run.descriptor, SOAP):
        from torchlpr.export.scripted.soap import ScriptedSoap

        folding = Folding(run.descriptor)
        return ScriptedSoap(run.descriptor, folding), folding
    from torchlpr.export.scripted.symmetry import ScriptedSymmetryFunctions

    return ScriptedSymmetryFunctions(run.descriptor), Unfolded(run.descriptor.n_features)


def _forms(run: Run, folding: Folding, parts: list[Segment], tolerance: float) -> nn.Module:
    """The factor, folded as the weights are."""
    from torchlpr.export.scripted.factors import RowForms, TriangleForms, TruncatedForms

    factor = run.rigidity.factor
    state = factor.state_dict()
    if not isinstance(factor, (RowSpace, ParameterSpace)):
        raise InputError(
            f"a rigidity in {factor.shape_name} cannot be exported: build it with shape='row' or "
            "'parameter', or export energies alone (rigidity=False, --no_rigidity)"
        )
    mu = state["mu"]
    if mu.ndim:
        raise InputError("a rigidity whose weights have mu of their own cannot be exported")
    if isinstance(factor, RowSpace):
        rows = folding.vectors(state["rows"], parts)
        if tolerance:
            return TruncatedForms(rows, mu, tolerance)
        return RowForms(rows, mu, state["triangle"])
    if tolerance:
        raise InputError(
            "a rigidity in parameter space has no rows to leave out; export it with tolerance=0"
        )
    triangle = folding.vectors(state["triangle"], parts)
    return TriangleForms(torch.linalg.qr(triangle, mode="r").R, mu)


def _opened(run: str | Path | Run) -> tuple[Run, str]:
    """The run, and what to call it."""
    if isinstance(run, Run):
        return run, "torchlpr run"
    path = checkpoint_of(run)
    return Run.from_file(path), path.resolve().parent.name


def _capabilities(run: Run, rigidity: bool, members: int) -> Any:
    """What the model tells engines."""
    from metatomic.torch import ModelCapabilities, ModelOutput

    from torchlpr.export.scripted.model import ENERGY, ENSEMBLE, LPR, MU_FRACTION, UNCERTAINTY

    def output(unit: str, description: str) -> Any:
        return ModelOutput(unit=unit, sample_kind="atom", description=description)

    outputs = {ENERGY: output("eV", "energy, baseline included")}
    if rigidity:
        outputs[LPR] = output("eV^-2", "1/(g^T H^-1 g): how firmly the training set fixes an atom")
        outputs[MU_FRACTION] = output("", "the regulariser's share in the rigidity; near 1 the "
                                      "training set says nothing")  # fmt: skip
        if members:
            outputs[ENSEMBLE] = output("eV", "energies of weights drawn from N(w, H^-1)")
        if run.calibration is not None:
            outputs[UNCERTAINTY] = output("eV", "alpha/sqrt(rigidity), calibrated")
    return ModelCapabilities(
        outputs=outputs,
        atomic_types=list(run.descriptor.types),
        interaction_range=run.descriptor.cutoff,
        length_unit="Angstrom",
        supported_devices=["cpu"],
        dtype="float64",
    )


def _metadata(run: Run, name: str) -> Any:
    from metatomic.torch import ModelMetadata

    rigidity = run.rigidity
    descriptor = SOAP_PAPER if isinstance(run.descriptor, SOAP) else SYMMETRY_PAPER
    return ModelMetadata(
        name=name,
        description=(
            f"{type(rigidity.model).__name__} on {type(run.descriptor).__name__} "
            f"by torchlpr {run.versions.get('torchlpr')}; "
            f"{rigidity.factor.n_rows} training rows, mu = {rigidity.objective.mu:.3g}, rigidity "
            f"in {rigidity.reason}; {run.stationarity.sentence()}"
        ),
        references={"architecture": [RIGIDITY_PAPER, descriptor]},
    )


def _check_folder(folder: str | Path | None) -> None:
    """Refuse to empty a folder that is not one of libraries."""
    if folder is None or not Path(folder).exists():
        return
    known = {".so", ".dylib", ".dll"}
    files = [file for file in Path(folder).rglob("*") if not file.is_dir()]
    other = [file.name for file in files if not known & set(file.suffixes)]
    if other or not Path(folder).is_dir():
        raise InputError(
            f"{folder} would be emptied for the extensions but holds {(other or ['a file'])[0]}; "
            "name a folder that does not exist"
        )


@contextmanager
def _without_deprecations() -> Iterator[None]:
    """TorchScript is deprecated in torch, and what metatomic models are made of."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`?torch.jit", DeprecationWarning)
        warnings.filterwarnings("ignore", "`?torch.jit", FutureWarning)
        yield
