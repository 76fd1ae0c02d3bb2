"""What the processes of these tests do; the functions are named in the tests that launch them."""

import contextlib
import dataclasses
import io
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from tests.cases import MODELS, make_batch, random_tensor
from tests.force_cases import make_force_batch
from torchlpr.cli.main import main
from torchlpr.errors import InputError, PeerError
from torchlpr.models import BehlerParrinelloMLP
from torchlpr.objective import Objective
from torchlpr.ranks import Ranks, current_ranks, processes
from torchlpr.rigidity import Rigidity
from torchlpr.structures.batch import AtomBatch
from torchlpr.training import AdamSettings, LMSettings, fit, train_network
from torchlpr.training.callbacks import ResumableCheckpoint


def collectives(folder: Path) -> dict[str, Any]:
    """Every call of Ranks, with parts of unequal sizes of which the first rank's are empty."""
    with processes() as ranks:
        mine = random_tensor(ranks.rank, ranks.rank, 3)
        parts = [random_tensor(10 * ranks.rank + b, ranks.rank, b + 1) for b in range(ranks.size)]
        items = iter(range(2 * ranks.rank))
        return {
            "sum": ranks.sum(random_tensor(ranks.rank, 4)),
            "gather": ranks.gather(mine),
            "gather dim 1": ranks.gather(mine.mT, dim=1),
            "gather first": ranks.gather(mine, first_only=True),
            "exchange": ranks.exchange(parts),
            "combine": ranks.combine(mine + 1, lambda a, b: torch.cat([a, b])),
            "from first": ranks.from_first(random_tensor(5 + ranks.rank, 2, 2)),
            "by first": ranks.by_first(lambda: {"who": ranks.rank}),
            "rounds": list(ranks.rounds(items)),
            "neighbours": ranks.neighbours,
        }


def subgroup(folder: Path) -> Any:
    """A group of the last two of three processes, made by the user."""
    import torch.distributed as dist

    with processes() as everyone:
        group = dist.new_group([1, 2])
        if everyone.rank == 0:
            return None
        ranks = Ranks(group)
        gathered = ranks.gather(torch.full((ranks.rank + 1,), float(everyone.rank)))
        merged = ranks.combine(torch.full((1,), float(everyone.rank)), lambda a, b: a - b)
        return ranks.rank, gathered.tolist(), merged.tolist()


def failures(folder: Path) -> list[str]:
    """What each rank sees when rank 1 fails, in every place where one can fail alone."""
    seen = []
    with processes() as ranks:
        batch, objective = make_batch(7), Objective(mu=0.1)
        for shape in ("row", "parameter", "column"):
            model = Sick(ranks.rank == 1)
            for work in (
                lambda: Rigidity(model, batch, objective, shape, ranks=ranks),  # noqa: B023
                lambda: healthy(model, batch, objective, shape, ranks).atoms(batch),  # noqa: B023
            ):
                try:
                    work()
                    seen.append("nothing")
                except (InputError, PeerError) as error:
                    seen.append(f"{type(error).__name__}: {error}")
        try:
            Rigidity.from_batches(Sick(False), raising(ranks), objective, ranks=ranks)
        except (OSError, PeerError) as error:
            seen.append(f"{type(error).__name__}: {error}")
        try:
            Rigidity(Sick(False), batch, objective, "row", memory_limit=1000, ranks=ranks)
        except (InputError, PeerError) as error:
            seen.append(type(error).__name__)
        # and they still understand each other
        seen.append(str(int(ranks.sum(torch.ones(1)))))
    return seen


def healthy(
    model: "Sick", batch: AtomBatch, objective: Objective, shape: Any, ranks: Ranks
) -> Rigidity:
    """A rigidity whose model falls ill afterwards."""
    sick, model.sick = model.sick, False
    rigidity = Rigidity(model, batch, objective, shape, ranks=ranks)
    rigidity.model.sick = sick
    return rigidity


def raising(ranks: Ranks) -> Any:
    yield make_batch(3, seed=ranks.rank)
    if ranks.rank == 1:
        raise OSError("the disk is gone")


class Sick(nn.Module):
    """A model that refuses to be evaluated where it is told to."""

    def __init__(self, sick: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(random_tensor(0, 4))
        self.sick = sick

    def forward(self, features: Tensor, types: Tensor) -> Tensor:
        if self.sick:
            raise InputError("this model is sick")
        return (features @ self.weight).tanh()


def killed(folder: Path) -> tuple[str, float]:
    """One of the ranks is killed while the others wait for it."""
    start = time.monotonic()
    try:
        with processes() as ranks:
            ranks.sum(torch.ones(1))
            if ranks.rank == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            start = time.monotonic()
            Rigidity(Sick(False), make_batch(7), Objective(mu=0.1), ranks=ranks)
    except RuntimeError as error:
        return type(error).__name__, time.monotonic() - start
    return "nothing", 0.0


def flattened(batch: AtomBatch) -> AtomBatch:
    """Twelve features that span four dimensions."""
    return dataclasses.replace(batch, features=batch.features @ random_tensor(0, 4, 12))


def in_fabric(folder: Path) -> dict[str, Any]:
    """A user's own group, here that of Lightning Fabric; and a rigidity of one rank alone."""
    fabric = L.Fabric(accelerator="cpu", strategy="ddp", devices=2)
    fabric.launch()
    ranks = current_ranks()
    model, batch, test = MODELS["mlp"][1](), make_batch(9), make_batch(5, seed=3)
    out = {"size": fabric.world_size}
    if ranks.first:  # nobody else need take part
        out["alone"] = Rigidity(model, batch, Objective(0.1)).local(test)
    with processes() as again:  # the group is there
        out["shared"] = Rigidity(model, batch, Objective(0.1), ranks=again).local(test)
    out["still"] = float(fabric.all_reduce(torch.ones(1), reduce_op="sum"))
    return out


SHAPES = ("row", "parameter", "column", "matrix-free")
SETS = {"few": 2, "some": 7, "many": 60}  # on three ranks the first leaves one without any
MUS = (1.0, 1e-9)


def rigidities(folder: Path, ranks: Ranks | None = None) -> dict[str, dict[str, Tensor]]:
    """Everything a rigidity says, for models, shapes, sizes and mu, on the ranks there are."""
    if ranks is None:
        with processes() as ranks:
            return rigidities(folder, ranks)
    out = {}
    for name in ("mlp bias silu two species", "linear two species", "kernel"):
        types, build = MODELS[name]
        test = make_batch(5, types, seed=3)
        for size, count in SETS.items():
            for mu in MUS:
                for shape in SHAPES:
                    if (mu < 1 and size != "some") or (
                        (mu < 1 or size == "many") and (shape == "matrix-free")
                    ):
                        continue
                    batch = make_batch(count, types)
                    one = Rigidity(build(), batch, Objective(mu), shape, ranks=ranks)
                    key = f"{name}, {size}, mu {mu:g}, {shape}"
                    out[key] = said(one, test)
    return out


def said(rigidity: Rigidity, test: AtomBatch) -> dict[str, Tensor]:
    atoms, whole = rigidity.atoms(test), rigidity.structures(test)
    numbers = {"lpr": atoms.rigidity, "pr": whole.rigidity}
    if rigidity.objective.mu > 1e-6:  # below it one process has no ten digits of them either
        numbers |= {"mu-fraction": atoms.mu_fraction, "pr mu-fraction": whole.mu_fraction}
    if rigidity.factor.shape_name != "matrix-free":
        numbers["dof"] = torch.tensor([rigidity.factor.effective_dof()])
    return numbers


def more(folder: Path, ranks: Ranks | None = None) -> dict[str, Any]:
    """Batches of each rank's own, changes, sweeps, intervals, files, and what auto takes."""
    if ranks is None:
        with processes() as ranks:
            return more(folder, ranks)
    out: dict[str, Any] = {}
    types, build = MODELS["mlp two species"]
    batch, test, objective = make_batch(9, types), make_batch(4, types, seed=2), Objective(0.01)
    forces = Objective(0.01, force_weight=0.3)
    for shape in ("row", "parameter", "column", "matrix-free"):
        for count in (2, 5):  # two are fewer than three ranks
            one = Rigidity(build(), make_force_batch(count, types), forces, shape, ranks=ranks)
            out[f"forces of {count}, {shape}"] = said(one, test)
    for shape in ("row", "parameter"):
        part = [batch.select([k]) for k in range(9)]
        mine = part if ranks.size == 1 else [part[:4], part[4:], []][ranks.rank]
        path = folder / f"{shape}-{ranks.size}.pt"
        for again in ("", " resumed"):
            streamed = Rigidity.from_batches(build(), mine, objective, shape, path, ranks=ranks)
            out[f"from batches, {shape}{again}"] = said(streamed, test)
        whole = Rigidity(build(), batch, objective, shape, ranks=ranks)
        out[f"added, {shape}"] = said(whole.add(test), test)
        swept = whole.sweep(test, [0.01, 1.0, 7.0])
        out[f"sweep, {shape}"] = {"lpr": swept.rigidity, "mu-fraction": swept.mu_fraction}
        out[f"intervals, {shape}"] = whole.intervals(test)._asdict()
    some = "networks.?.2.*"
    streamed = Rigidity.from_batches(build(), mine, objective, ranks=ranks, parameters=some)
    out["some weights of batches"] = said(streamed, test)
    for shape in ("row", "matrix-free"):
        whole = Rigidity(build(), make_force_batch(5, types), forces, shape, ranks=ranks)
        for after in ("auto", "row", "parameter", "matrix-free"):
            out[f"recast, {shape} to {after}"] = said(whole.recast(after, some), test)
    wide = [flattened(make_batch(count, types, seed=4)) for count in (9, 30)]
    network = BehlerParrinelloMLP(12, types, (3,), seed=0)
    spanned = Rigidity(network, wide[0], objective, "row", ranks=ranks)
    out["in the span of the features"] = said(spanned, wide[1])
    assert spanned._span is not None
    out["in the span of the features"] |= {"lpr alone": spanned.local(wide[1])}
    mixed = Rigidity(network, wide[0], objective, "row", ranks=ranks)
    mixed.prepare(wide[1])
    if ranks is not None and ranks.rank == ranks.size - 1:
        vars(mixed)["_span"] = None  # as where memory is short
    out["where one rank has no span"] = {"lpr": mixed.local(wide[1])}
    columns = Rigidity(build(), batch, objective, "column", ranks=ranks)
    vectors = random_tensor(ranks.rank, 3, columns.factor.n_parameters)
    solved = columns.factor.solve(vectors)
    reference = Rigidity(build(), batch, objective, "row").factor.solve(vectors)
    torch.testing.assert_close(solved, reference, rtol=1e-10, atol=1e-12)
    path = folder / f"columns-{ranks.size}.pt"
    columns.save(path)
    for how in (None, ranks):
        loaded = Rigidity.load(path, how)
        out["columns saved" + (" and shared" if how else "")] = said(loaded, test)
    return out


def seen(folder: Path) -> dict[str, list[list[list[int]]]]:
    """Which structures each process trains and validates on, step by step."""
    out = {}
    with processes() as ranks:
        for name, size in {"full": None, "mini": 3}.items():
            probe = Probe()
            batch = make_batch(7)  # the energies tell the structures apart
            numbered = AtomBatch(
                batch.features, batch.types, batch.structure, torch.arange(7.0).double()
            )
            settings = AdamSettings(epochs=2, batch_size=size)
            probe_model = MODELS["mlp"][1]()
            train_network(
                probe_model, numbered, Objective(0.1), settings, numbered,
                progress=False, callbacks=[probe], ranks=ranks,
            )  # fmt: skip
            out[name] = probe.steps
    return out


class Probe(L.Callback):
    """Writes down the energies of each batch."""

    def __init__(self) -> None:
        self.steps: list[list[int]] = []

    def on_train_batch_start(self, trainer: Any, module: Any, batch: AtomBatch, _: int) -> None:
        self.steps.append([int(energy) for energy in batch.labels()])

    on_validation_batch_start = on_train_batch_start


TRAININGS: dict[str, dict[str, Any]] = {
    "full batch": {"epochs": 60, "lr": 0.3, "patience": 2, "cooldown": 4},
    "mini-batches": {"epochs": 6, "batch_size": 4},
    "one structure": {"epochs": 5, "structures": 1},
    "two species": {"epochs": 10, "name": "mlp bias silu two species"},
}


def trainings(folder: Path, ranks: Ranks | None = None) -> dict[str, dict[str, Tensor]]:
    """Weights and history of Adam, of Adam then Levenberg-Marquardt, and of a closed form."""
    if ranks is None:
        with processes() as ranks:
            return trainings(folder, ranks)
    out = {}
    objective = Objective(mu=0.02, energy_weight=1.7)
    for key, settings in TRAININGS.items():
        adam = dict(settings)
        types, build = MODELS[adam.pop("name", "mlp bias tanh")]
        batch = make_batch(adam.pop("structures", 9), types)
        validation = make_batch(4, types, seed=1)
        model = build()
        if ranks.rank:  # DDP begins with the first rank's weights
            with torch.no_grad():
                next(model.parameters()).add_(1.0)
        rows = train_network(
            model, batch, objective, AdamSettings(**adam), validation, progress=False, ranks=ranks
        )
        history = torch.tensor(rows, dtype=torch.float64)
        out[key] = {"weights": weights(model), "history": history}
    for key, structures, size in (("forces", 9, None), ("forces of few", 2, None), ("", 7, 3)):
        types, build = MODELS["mlp bias tanh"]
        train, validation = (make_force_batch(structures, types, seed) for seed in (0, 1))
        adam, model = AdamSettings(epochs=6, lr=0.01, batch_size=size), build()
        forces = dataclasses.replace(objective, force_weight=0.3)
        data = train, forces, adam, validation
        rows = train_network(model, *data, progress=False, ranks=ranks)
        history = torch.tensor(rows, dtype=torch.float64)
        out[key or "forces in mini-batches"] = {"weights": weights(model), "history": history}
    for key, name, optimizer in (
        ("polished", "mlp two species", "adam+lm"),
        ("closed form", "kernel", "auto"),
    ):
        types, build = MODELS[name]
        model = build()
        result = fit(
            model, make_batch(9, types), objective, optimizer, settings=AdamSettings(epochs=5),
            lm_settings=LMSettings(steps=30), progress=False, ranks=ranks,
        )  # fmt: skip
        out[key] = {
            "weights": weights(model),
            "history": torch.tensor([result.loss, result.rmse], dtype=torch.float64),
        }
    return out


def weights(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def interrupted(folder: Path) -> dict[str, Tensor]:
    """A shared training that stops after a checkpoint, and goes on."""
    out = {}
    batch, objective = make_batch(7), Objective(mu=0.02)
    with processes() as ranks:
        for key in ("whole", "resumed"):
            model = MODELS["mlp"][1]()
            options = {"progress": False, "ranks": ranks, "out": folder / key}
            if key == "resumed":
                try:
                    stop: Any = [Stop(4)]
                    settings = AdamSettings(epochs=8)
                    train_network(model, batch, objective, settings, callbacks=stop, **options)
                except KeyboardInterrupt:
                    model = MODELS["mlp"][1]()
            probe = Probe()
            settings = AdamSettings(epochs=8)
            rows = train_network(model, batch, objective, settings, callbacks=[probe], **options)
            ranks.sum(torch.ones(1))  # the first one writes on
            out[f"{key} steps"] = len(probe.steps)
            out[key] = torch.cat([weights(model), torch.tensor(rows).double()[:, :3].flatten()])
            out[f"{key} files"] = sorted(path.name for path in (folder / key).iterdir())
    return out


class Stop(L.Callback):
    """Ends the training after the checkpoint of an epoch, which this makes due at once."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_epoch_start(self, trainer: L.Trainer, module: Any) -> None:
        for callback in trainer.callbacks:
            if isinstance(callback, ResumableCheckpoint):
                callback.seconds = 0.0
        if trainer.current_epoch == self.epoch:
            raise KeyboardInterrupt


def diverging(folder: Path) -> str:
    """One process alone has energies that are beyond all bounds."""
    with processes() as ranks:
        batch = make_batch(4)
        energies = torch.tensor([0.0, 0.0, 0.0, 1e200], dtype=torch.float64)
        batch = AtomBatch(batch.features, batch.types, batch.structure, energies)
        try:
            fit(MODELS["mlp"][1](), batch, Objective(0.1), "adam", progress=False, ranks=ranks)
        except FloatingPointError as error:
            return str(error)
    return "nothing"


def commands(folder: Path) -> list[tuple[list[str], int, str, str]]:
    """The command line, with what each rank prints."""
    said = []
    for words in json.loads((folder.parent / "commands.json").read_text()):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(words)
        said.append((words, code, out.getvalue(), err.getvalue()))
    return said
