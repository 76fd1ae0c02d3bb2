"""SOAP hyperparameters in three spellings: torchlpr's flat one, featomic's nested one, rascaline's.

featomic is the new name of rascaline; its ``max_radial`` became the largest radial *index*, so that
the same basis reads 9 in featomic and torchlpr where rascaline said 10.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from torchlpr.errors import InputError
from torchlpr.structures.species import normalise_types

if TYPE_CHECKING:
    from torchlpr.descriptors.soap import SOAP

__all__ = [
    "LARGEST_RADIAL",
    "SPLINE_ACCURACY",
    "check_index",
    "check_length",
    "check_scaling",
    "featomic_hypers",
    "from_rascaline",
]

#: largest error of the splined radial integrals: featomic's default, and the papers' choice
SPLINE_ACCURACY = 1e-8
#: featomic orthogonalises the GTO basis in double precision: singular from 22 on
LARGEST_RADIAL = 21

_KNOWN = {
    "cutoff",
    "max_radial",
    "max_angular",
    "atomic_gaussian_width",
    "center_atom_weight",
    "cutoff_function",
    "radial_scaling",
    "radial_basis",
    "gradients",
}


def featomic_hypers(soap: SOAP) -> dict[str, Any]:
    """Nested hyperparameters of ``SoapPowerSpectrum``, in featomic and in featomic-torch.

    Args:
        soap: the descriptor.

    Returns:
        Keyword arguments of ``SoapPowerSpectrum``.
    """
    density: dict[str, Any] = {"type": "Gaussian", "width": soap.width}
    if soap.radial_scaling is not None:
        density["scaling"] = {"type": "Willatt2018", **soap.radial_scaling}
    return {
        "cutoff": {
            "radius": soap.cutoff,
            "smoothing": {"type": "ShiftedCosine", "width": soap.smoothing},
        },
        "density": density,
        "basis": {
            "type": "TensorProduct",
            "max_angular": soap.max_angular,
            "radial": {"type": "Gto", "max_radial": soap.max_radial},
            "spline_accuracy": SPLINE_ACCURACY,
        },
    }


def check_length(name: str, value: float) -> float:
    """A positive length in Å.

    Args:
        name: what the user calls it.
        value: what the user gave.

    Returns:
        The value, a float.

    Raises:
        InputError: if it is not positive and finite.
    """
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"{name} must be a positive length in Å, not {value}")
    return float(value)


def check_index(name: str, value: int, largest: int | None = None) -> int:
    """The largest index of a basis.

    Args:
        name: what the user calls it.
        value: what the user gave.
        largest: beyond it the basis is singular.

    Returns:
        The value, an int.

    Raises:
        InputError: if it is not a whole number in the range.
    """
    if int(value) != value or value < 0:
        raise InputError(f"{name} must be a whole number from 0 on, not {value}")
    if largest is not None and value > largest:
        raise InputError(f"{name}={value} is too large: the basis is singular beyond {largest}")
    return int(value)


def check_scaling(scaling: Mapping[str, float] | None) -> dict[str, float] | None:
    """The settings of the radial scaling c / (c + (r / r0)^m).

    Args:
        scaling: exponent m, rate c and scale r0 (Å), or None.

    Returns:
        A plain copy, or None.

    Raises:
        InputError: if a setting is missing, unknown or not positive.
    """
    if scaling is None:
        return None
    if set(scaling) != {"exponent", "rate", "scale"}:
        raise InputError(
            f"radial_scaling must have exponent, rate and scale, not {', '.join(sorted(scaling))}"
        )
    if bad := [name for name, x in scaling.items() if not (math.isfinite(x) and x > 0)]:
        raise InputError(f"radial_scaling {bad[0]} must be positive, not {scaling[bad[0]]}")
    return {name: float(scaling[name]) for name in ("exponent", "rate", "scale")}


def from_rascaline(hypers: Mapping[str, Any], types: Iterable[int | str]) -> dict[str, Any]:
    """Translate the hyperparameters of rascaline's ``SoapPowerSpectrum``.

    Args:
        hypers: rascaline's dictionary, lengths in Å; it is not changed.
        types: atomic numbers or chemical symbols of the descriptor, which rascaline took from
            the structures.

    Returns:
        Keyword arguments of :class:`torchlpr.descriptors.soap.SOAP`.

    Raises:
        InputError: if a setting is missing, unknown, or has no counterpart in SOAP.
    """
    if unknown := sorted(set(hypers) - _KNOWN):
        hint = "; these are featomic's own, not rascaline's" if "density" in unknown else ""
        raise InputError(f"no rascaline hyperparameter is called {', '.join(unknown)}{hint}")
    if hypers.get("gradients"):
        raise InputError("gradients=True has no counterpart: SOAP computes features; remove it")
    if (weight := _get(hypers, "center_atom_weight")) != 1:
        raise InputError(f"center_atom_weight must be 1, not {weight}: SOAP has no other")
    _check_radial_basis(_get(hypers, "radial_basis"))
    return {
        "cutoff": float(_get(hypers, "cutoff")),
        "max_radial": int(_get(hypers, "max_radial")) - 1,
        "max_angular": int(_get(hypers, "max_angular")),
        "width": float(_get(hypers, "atomic_gaussian_width")),
        "smoothing": _smoothing(_get(hypers, "cutoff_function")),
        "types": list(normalise_types(types)),
        "radial_scaling": _radial_scaling(hypers.get("radial_scaling")),
    }


def _get(settings: Mapping[str, Any], name: str) -> Any:
    """One setting that must be there."""
    if name not in settings:
        raise InputError(f"the rascaline hyperparameters lack {name}")
    return settings[name]


def _only_choice(entry: object, name: str, supported: str) -> Mapping[str, Any]:
    """The settings of ``{"Choice": {...}}``, where one choice is supported."""
    if not isinstance(entry, Mapping) or len(entry) != 1:
        raise InputError(f'{name} must look like {{"{supported}": {{...}}}}, not {entry!r}')
    choice, settings = next(iter(entry.items()))
    if choice != supported:
        raise InputError(f"{name} {choice} has no counterpart: SOAP supports {supported} only")
    return settings or {}


def _smoothing(cutoff_function: object) -> float:
    return float(_get(_only_choice(cutoff_function, "cutoff_function", "ShiftedCosine"), "width"))


def _check_radial_basis(radial_basis: object) -> None:
    """Refuse what is not a GTO basis with splines of at most SOAP's accuracy."""
    gto = _only_choice(radial_basis, "radial_basis", "Gto")
    if unknown := sorted(set(gto) - {"spline_accuracy", "splined_radial_integral"}):
        raise InputError(f"radial_basis.Gto has no setting called {', '.join(unknown)}")
    accuracy = gto.get("spline_accuracy")
    if not gto.get("splined_radial_integral", True) or (accuracy or 1) < SPLINE_ACCURACY:
        raise InputError(
            f"SOAP splines the radial integrals to {SPLINE_ACCURACY}: remove "
            "splined_radial_integral and spline_accuracy from radial_basis.Gto if that will do"
        )


def _radial_scaling(scaling: object) -> dict[str, float] | None:
    """Settings of the Willatt2018 scaling, None where there is none."""
    if scaling is None or (isinstance(scaling, Mapping) and set(scaling) <= {"None"}):
        return None
    settings = _only_choice(scaling, "radial_scaling", "Willatt2018")
    return {name: float(_get(settings, name)) for name in ("exponent", "rate", "scale")}
