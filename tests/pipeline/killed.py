"""Run as a script: start ``torchlpr`` again and again, each time to be killed by SIGKILL.

Every process is forked from this one, which has imported torchlpr but computed nothing, so that
the imports are paid for once. Arguments: a JSON list of [moment, count] and the words of the
command line. A moment is the ending of a file's name, and the process dies half-way through
writing the count-th such file; or "seconds", and it is killed from outside after so many.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import torch

from torchlpr.cli.main import main
from torchlpr.training.callbacks import ResumableCheckpoint
from torchlpr.training.resume import SavePoint


def die_writing(ending: str, count: int) -> None:
    """Rename the count-th file of that ending never: leave half of it and die."""
    real, seen = Path.replace, []

    def replace(self: Path, target: Path) -> Path:
        if Path(target).name.endswith(ending):
            seen.append(target)
            if len(seen) == count:
                os.truncate(self, self.stat().st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)
        return real(self, target)

    Path.replace = replace  # type: ignore[method-assign, assignment]


def one(moment: str, count: float, words: list[str]) -> int:
    """Fork, run, be killed; the signal that ended it, 0 if it came to its end."""
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        for cls in (ResumableCheckpoint, SavePoint):
            cls.__init__.__defaults__ = (0.0,)
        if moment != "seconds":
            die_writing(moment, int(count))
        os._exit(main(words))
    if moment == "seconds":
        time.sleep(count)
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


if __name__ == "__main__":
    plan, *line = sys.argv[1:]
    for moment_, count_ in json.loads(plan):
        folder = Path(line[line.index("--out") + 1])
        ended = one(moment_, count_, line)
        hidden = [p.name[34:] for p in folder.rglob(".*")] if folder.exists() else []
        print(json.dumps([ended, hidden, (folder / "checkpoint.pt").exists()]), flush=True)
