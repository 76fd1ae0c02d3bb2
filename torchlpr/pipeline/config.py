"""The settings of a fit; every one but the training file has a default that makes sense."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Literal

from torchlpr.descriptors.symmetry_parameters import Style
from torchlpr.errors import InputError

__all__ = [
    "DataConfig",
    "DescriptorConfig",
    "FitConfig",
    "ModelConfig",
    "ObjectiveConfig",
    "TrainingConfig",
]

_OF_SOAP = (
    "max_radial", "max_angular", "width", "smoothing", "radial_scaling", "normalize", "cache",
)  # fmt: skip
_OF_SYMMETRY = ("n_radial", "n_angular", "style", "scaling")


@dataclass
class DataConfig:
    """Where structures come from.

    Attributes:
        train: file of training structures, anything that ASE reads.
        validation: file of validation structures, or the fraction of the training file to set
            aside for it; 0 for none.
        test: file of test structures, or the fraction of the training file to set aside.
        energy_key: name of the total energy in the files.
        forces_key: name of the forces in the files, read where objective.force_weight is not 0.
        group_key: name of an info entry (a trajectory, say) whose structures stay together.
        seed: seed of the split.
    """

    train: str
    validation: float | str = 0.1  # the number first: jsonargparse tries types in this order
    test: float | str = 0.1
    energy_key: str = "energy"
    forces_key: str = "forces"
    group_key: str | None = None
    seed: int = 0


@dataclass
class DescriptorConfig:
    """SOAP power spectrum, in featomic's terms, or symmetry functions.

    Attributes:
        kind: soap or symmetry-functions.
        cutoff: radius of an environment in Å.
        max_radial: largest radial index; 7 gives 8 functions.
        max_angular: largest angular momentum.
        width: width of the atomic Gaussians in Å.
        smoothing: width of the smooth end of the cutoff in Å.
        types: elements the model knows, those of the data if null.
        radial_scaling: exponent, rate and scale of the weight of distant neighbours, or null.
        normalize: scale the vector of each atom to unit norm.
        cache: folder that keeps features between runs, null for none.
        n_radial: G2 symmetry functions for each species.
        n_angular: values of eta of the G4, each with zeta 1, 4 and 16 and both signs of lambda.
        style: rule for the G2, of Imbalzano et al. 2018 or Gastegger et al. 2018.
        scaling: of the symmetry functions on the training set: range for [-1, 1], standard for
            unit variance, or none.
    """

    kind: Literal["soap", "symmetry-functions"] = "soap"
    cutoff: float = 5.0
    max_radial: int = 7
    max_angular: int = 6
    width: float = 0.5
    smoothing: float = 0.5
    types: list[str] | None = None
    radial_scaling: dict[str, float] | None = None
    normalize: bool = True
    cache: str | None = None
    n_radial: int = 8
    n_angular: int = 2
    style: Style = "gastegger-shifted"
    scaling: Literal["range", "standard", "none"] = "range"

    def __post_init__(self) -> None:
        """Refuse a setting that belongs to the other kind: it would do nothing."""
        foreign = _OF_SYMMETRY if self.kind == "soap" else _OF_SOAP
        default = {f.name: f.default for f in fields(self)}
        if given := [name for name in foreign if getattr(self, name) != default[name]]:
            other = "symmetry-functions" if self.kind == "soap" else "soap"
            raise InputError(
                f"descriptor.{given[0]} is a setting of {other}, but descriptor.kind is "
                f"{self.kind}; remove one of the two"
            )


@dataclass
class ModelConfig:
    """What maps features to atomic energies.

    Attributes:
        kind: mlp (Behler-Parrinello network), linear or kernel (sparse kernel, SOAP).
        hidden: widths of the network's hidden layers.
        activation: sigmoid, tanh, silu, softplus or linear.
        bias: whether the network's layers have biases.
        n_inducing: inducing environments of the kernel model, by farthest-point sampling.
        zeta: exponent of the kernel.
        seed: seed of the network's initial weights.
    """

    kind: Literal["mlp", "linear", "kernel"] = "mlp"
    hidden: list[int] = field(default_factory=lambda: [16, 16])
    activation: str = "sigmoid"
    bias: bool = False
    n_inducing: int = 500
    zeta: int = 2
    seed: int = 0


@dataclass
class ObjectiveConfig:
    """The loss, in the half convention or as a loss of means.

    Attributes:
        mu: strength of the L2 term 1/2 mu |w|^2, or auto for a search.
        grid: values that auto tries, a default grid if null.
        rule: which mu auto takes: the minimum of the validation error, the largest mu within
            one-standard-error of it; or, without a validation set, the minimum of the
            leave-one-out error, or the maximum of the evidence.
        energy_weight: weight of the energy rows.
        per_atom: energies per atom rather than totals.
        force_weight: weight of each component of a force in Å^2, 0 to train on energies alone.
        convention: half for 1/2 sum (dE/n)^2 + 1/2 force_weight sum dF^2 + 1/2 mu |w|^2, or mean
            for mean (dE/n)^2 + force_weight mean dF^2 + mu |w|^2 as in Yoo et al. 2019; the summary
            tells mu and force_weight in the half convention.
    """

    mu: float | Literal["auto"] = "auto"
    grid: list[float] | None = None
    rule: Literal["minimum", "one-standard-error", "leave-one-out", "evidence"] = "minimum"
    energy_weight: float = 1.0
    per_atom: bool = True
    force_weight: float = 0.0
    convention: Literal["half", "mean"] = "half"


@dataclass
class TrainingConfig:
    """How the minimum is found; linear and kernel heads have a closed form.

    Attributes:
        optimizer: auto, closed-form, lm (Levenberg-Marquardt, then Newton), adam, adam+lm or lbfgs
            (the full batch, strong Wolfe).
        steps: Levenberg-Marquardt steps at most.
        newton_steps: trust-region Newton steps at most, 0 for none.
        tolerance: gradient norm relative to mu |w| that counts as a minimum.
        epochs: Adam's passes over the training set.
        lr: Adam's learning rate.
        factor: factor of the learning rate where the loss stands still.
        patience: epochs without improvement before the rate falls.
        cooldown: epochs to wait after it fell.
        batch_size: structures a step of Adam, null for all.
        seed: seed of the order of mini-batches.
        iterations: Adam's steps in all, in place of epochs; null for whole epochs.
        final_lr: learning rate at the end of an exponential decay from lr, null for plateaus.
        lbfgs_epochs: steps of L-BFGS at most.
        early_stopping: epochs of Adam without a lower validation error after which it ends with
            its best weights, null for never.
        float32: train in single precision; rigidity is computed in double all the same.
    """

    optimizer: Literal["auto", "closed-form", "lm", "adam", "adam+lm", "lbfgs"] = "auto"
    steps: int = 200
    newton_steps: int = 500
    tolerance: float = 1e-8
    epochs: int = 2000
    lr: float = 0.005
    factor: float = 0.5
    patience: int = 100
    cooldown: int = 100
    batch_size: int | None = None
    seed: int = 0
    iterations: int | None = None
    final_lr: float | None = None
    lbfgs_epochs: int = 800
    early_stopping: int | None = None
    float32: bool = False


@dataclass
class FitConfig:
    """All settings of a fit."""

    data: DataConfig
    descriptor: DescriptorConfig = field(default_factory=DescriptorConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        if self.objective.mu == "auto" and self.objective.convention == "mean":
            raise InputError(
                "objective.convention is mean, where mu is a coefficient that is known: give it as "
                "a number, or let objective.mu: auto search in the half convention"
            )
        validated = self.objective.rule in {"minimum", "one-standard-error"}
        if self.objective.mu == "auto" and validated and self.data.validation == 0:
            raise InputError(
                "objective.mu is auto but data.validation is 0; give validation structures, a "
                "fraction to set aside, objective.rule leave-one-out or evidence, or a fixed mu"
            )
        if self.training.early_stopping is not None and self.data.validation == 0:
            raise InputError(
                f"training.early_stopping is {self.training.early_stopping} but data.validation is "
                "0; give validation structures or a fraction to set aside"
            )
