"""What a resumed training must share with the one that was interrupted."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from torchlpr.errors import InputError
from torchlpr.models.state import architecture
from torchlpr.objective import Objective
from torchlpr.serialization import read_document, write_document
from torchlpr.structures.batch import AtomBatch

__all__ = ["SavePoint", "fingerprint"]


def fingerprint(
    model: nn.Module,
    batch: AtomBatch,
    objective: Objective,
    settings: Any,
) -> str:
    """Hash of all that the course of a training depends on.

    Args:
        model: with its initial weights.
        batch: training structures with energies.
        objective: the loss.
        settings: a dataclass of the optimiser's settings.

    Returns:
        Hexadecimal SHA-256.
    """
    text = json.dumps([objective.as_dict(), asdict(settings), architecture(model)])
    digest = hashlib.sha256(text.encode())
    data = [batch.features, batch.types, batch.structure, batch.labels()]
    if objective.force_weight and batch.forces is not None and batch.derivatives is not None:
        d = batch.derivatives
        data += [batch.forces, d.centre, d.moved, d.values]
    for tensor in (*data, *model.state_dict().values()):
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


class SavePoint:
    """A file with the state of a running optimisation, written every few seconds.

    Args:
        path: the file, always whole.
        mark: fingerprint of the training; a file with another one is refused.
        seconds: least time between two writes.
    """

    def __init__(self, path: Path, mark: str, seconds: float = 15.0) -> None:
        self.path, self.mark, self.seconds = path, mark, seconds
        self._last = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """State of an interrupted run of the same training.

        Returns:
            The state, or None where there is no file.

        Raises:
            InputError: if the file belongs to another training.
        """
        if not self.path.exists():
            return None
        content = read_document(self.path, "training")
        if content["fingerprint"] != self.mark:
            raise InputError(
                f"{self.path} belongs to a training on other data or with other settings; "
                "choose another output folder or remove that file"
            )
        state: dict[str, Any] = content["state"]
        return state

    def save(self, state: dict[str, Any], now: bool = False) -> None:
        """Write the state when it is time to.

        Args:
            state: plain tensors, numbers and lists.
            now: write whatever the time.
        """
        if now or time.monotonic() - self._last >= self.seconds:
            write_document(self.path, "training", {"fingerprint": self.mark, "state": state})
            self._last = time.monotonic()
