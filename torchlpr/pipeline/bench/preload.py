"""What the server of :mod:`torchlpr.pipeline.bench.memory` imports before it forks."""

from contextlib import suppress

from torchlpr.pipeline.bench import memory
from torchlpr.pipeline.bench.methods import Unavailable, import_peer

__all__ = ["memory"]

for name in ("backpack", "curvlinops", "laplace", "skmatter.metrics"):
    with suppress(Unavailable):
        import_peer(name, name)
