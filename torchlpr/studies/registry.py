"""Studies by name, and how their settings are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from torchlpr.errors import InputError
from torchlpr.files import make_folder
from torchlpr.studies.report import StudyReport

__all__ = ["STUDIES", "read_settings", "run_study"]

# module that holds each study: a dataclass Settings and run(settings, folder, quick) -> StudyReport
STUDIES: dict[str, str] = {
    "toy_model": "torchlpr.studies.toy_model",
    "single_environments": "torchlpr.studies.single_environments",
    "spline": "torchlpr.studies.spline",
    "amorphous_silicon": "torchlpr.studies.amorphous_silicon",
    "amorphous_carbon": "torchlpr.studies.amorphous_carbon",
    "binary_composition": "torchlpr.studies.binary_composition",
    "realistic_carbon": "torchlpr.studies.realistic_carbon",
    "neural_network": "torchlpr.studies.neural_network",
    "silicon_mapping": "torchlpr.studies.silicon_mapping",
}


def run_study(
    name: str,
    out: str | Path | None = None,
    config: str | Path | None = None,
    quick: bool = False,
    data: str | None = None,
) -> StudyReport:
    """Run a study and write its summary.

    Args:
        name: of the study.
        out: folder for figures and tables, by default the name.
        config: YAML file of the study's settings, by default those of the study itself.
        quick: a smaller version, with the same claims, that ends within two minutes.
        data: "original" for the paper's structures, which are downloaded once, or "surrogate" for
            others; by default what the settings say.

    Returns:
        The report.

    Raises:
        InputError: if there is no such study, or it has no such choice of data.
    """
    if name not in STUDIES:
        raise InputError(f"there is no study {name!r}; there are {', '.join(STUDIES)}")
    module = import_module(STUDIES[name])
    settings = read_settings(module.Settings, config)
    if data is not None:
        if not hasattr(settings, "data"):
            raise InputError(f"the study {name} has one set of data; leave out --data {data}")
        settings = replace(settings, data=data)
    run: Callable[..., StudyReport] = module.run
    report = run(settings, make_folder(out or name), quick)
    report.save()
    return report


def read_settings(cls: type, config: str | Path | None) -> Any:
    """Settings of a study from a YAML file; what it leaves out keeps its default.

    Args:
        cls: dataclass of the settings.
        config: the file, or None.

    Returns:
        An instance of ``cls``.

    Raises:
        InputError: if the file cannot be read or has an unknown key or a value of a wrong type.
    """
    if config is None:
        return cls()
    try:
        given = yaml.safe_load(Path(config).read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"cannot read the settings in {config}: {reason}") from error
    known = [field.name for field in fields(cls)]
    if not isinstance(given, dict) or set(given) - set(known):
        wrong = sorted(map(str, set(given) - set(known))) if isinstance(given, dict) else [given]
        raise InputError(f"{config} has {wrong}, which is no setting; there are {', '.join(known)}")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(cls)
    try:
        typed = parser.parse_object(given)  # YAML takes 1e-6, without a point, for a word
    except ArgumentError as error:
        raise InputError(f"cannot use {config}: {' '.join(str(error).split())}") from error
    return cls(**typed.as_dict())
