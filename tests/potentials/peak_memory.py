"""Run as a script: predicted and measured memory of a rigidity of the toy, in bytes, as JSON."""

import json
from pathlib import Path

from tests.curvature.peak_memory import status
from tests.potentials.toy import Messages, cells
from torchlpr import Objective
from torchlpr.potentials import PotentialRigidity

OBJECTIVE = Objective(mu=1.0)


def main() -> None:
    model, train, test = Messages(width=300), cells(200), cells(20, seed=1)
    PotentialRigidity(Messages(), train[:2], OBJECTIVE).atoms(test)  # buffers of libraries
    predicted = PotentialRigidity.predict_memory(model, train, test)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = status("VmRSS")
    PotentialRigidity(model, train, OBJECTIVE).atoms(test)
    print(json.dumps([predicted.peak, status("VmHWM") - before]))


if __name__ == "__main__":
    main()
