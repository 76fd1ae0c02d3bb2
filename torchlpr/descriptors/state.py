"""Descriptors as plain settings, the way runs keep them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from torchlpr.descriptors.soap import SOAP
from torchlpr.descriptors.symmetry import SymmetryFunctions
from torchlpr.errors import InputError

__all__ = ["Descriptor", "descriptor_state", "load_descriptor"]

Descriptor: TypeAlias = "SOAP | SymmetryFunctions"
_KINDS: dict[str, type[SOAP] | type[SymmetryFunctions]] = {
    "soap": SOAP,
    "symmetry-functions": SymmetryFunctions,
}


def descriptor_state(descriptor: Descriptor) -> dict[str, Any]:
    """Kind and plain settings of a descriptor.

    Args:
        descriptor: SOAP or symmetry functions.

    Returns:
        What :func:`load_descriptor` reads.
    """
    kind = next(name for name, made in _KINDS.items() if isinstance(descriptor, made))
    return {"kind": kind, **descriptor.hypers()}


def load_descriptor(state: Mapping[str, Any]) -> Descriptor:
    """Rebuild a descriptor.

    Args:
        state: from :func:`descriptor_state`; without a kind it is SOAP, as in the first runs.

    Returns:
        The descriptor.

    Raises:
        InputError: if the kind is unknown.
    """
    settings = dict(state)
    kind = settings.pop("kind", "soap")
    if kind not in _KINDS:
        raise InputError(
            f"descriptor {kind!r} is unknown to this torchlpr, which has {', '.join(_KINDS)}; "
            "update torchlpr"
        )
    return _KINDS[kind](**settings)
