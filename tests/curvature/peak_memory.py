"""Run as a script: peak memory of rigidities, each in a process of its own, in bytes, as JSON.

Argument: a JSON list of objects with shape, structures, features, atoms, limit and sweep. Every
process is forked from this one, so that the imports are paid for once.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from tests.cases import make_batch
from torchlpr.models import BehlerParrinelloMLP
from torchlpr.objective import Objective
from torchlpr.rigidity import Rigidity

MUS = [1e-3, 1e-2, 1e-1]


def status(name: str) -> int:
    line = next(
        x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(name + ":")
    )
    return 1024 * int(line.split()[1])


def work(
    shape: str, structures: int, features: int, atoms: int, limit: int | None, sweep: bool
) -> int:
    """Bytes above the data: peak of the resident set less its size before."""
    model = BehlerParrinelloMLP(features, (14,), (16, 4), seed=0)
    train = make_batch(structures, atoms=4, features=features)
    test = make_batch(atoms, seed=1, atoms=1, features=features)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = status("VmRSS")
    rigidity = Rigidity(model, train, Objective(mu=1e-3), shape, memory_limit=limit)
    if sweep:
        rigidity.sweep(test, MUS)
    else:
        rigidity.atoms(test)
    return status("VmHWM") - before


def measured(options: dict[str, Any]) -> int:
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        # libraries allocate buffers of their own in the first call
        work(**options | {"structures": 4, "features": 8, "atoms": 4, "limit": None})
        os.write(writer, str(work(**options)).encode())
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0, options
    return int(os.read(reader, 100))


if __name__ == "__main__":
    print(json.dumps([measured(options) for options in json.loads(sys.argv[1])]))
