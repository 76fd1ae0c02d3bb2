"""Batches as a real Trainer receives them."""

import warnings
from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from torchlpr.errors import InputError
from torchlpr.structures.batch import AtomBatch
from torchlpr.structures.datamodule import StructureDataModule
from torchlpr.structures.epochs import Epoch, EpochSampler, ResidentStructures

# Lightning 2.6 on torch 2.13 trips over a name of torch's own: nothing of ours
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated:FutureWarning")


def batch(n_structures: int = 7, labels: bool = True) -> AtomBatch:
    """Structure A has 1 + A % 3 atoms and the energy A, so that batches tell what is in them."""
    counts = torch.tensor([1 + a % 3 for a in range(n_structures)])
    structure = torch.arange(n_structures).repeat_interleave(counts)
    features = torch.randn(len(structure), 4, generator=torch.Generator().manual_seed(0))
    return AtomBatch.from_arrays(
        features.double(),
        torch.full((len(structure),), 14),
        structure,
        torch.arange(float(n_structures)) if labels else None,
    )


class Recorder(LightningModule):
    """A small model that writes down what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 1, dtype=torch.float64)
        self.seen: dict[int, list[list[int]]] = {}
        self.validated: list[list[int]] = []
        self.objects: list[AtomBatch] = []

    def training_step(self, batch: AtomBatch, _: int) -> torch.Tensor:
        self.objects.append(batch)
        seen = self.seen.setdefault(self.current_epoch, [])
        seen.append([int(energy) for energy in batch.labels()])
        return self.linear(batch.features).square().mean()

    def validation_step(self, batch: AtomBatch, _: int) -> None:
        self.objects.append(batch)
        self.validated.append([int(energy) for energy in batch.labels()])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def trainer(folder: Path, epochs: int, **settings: object) -> Trainer:
    quiet = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "accelerator": "cpu",
    }
    settings.setdefault("enable_checkpointing", False)
    return Trainer(max_epochs=epochs, default_root_dir=folder, **quiet, **settings)


def fit(folder: Path, data: StructureDataModule, epochs: int, **settings: object) -> Recorder:
    model = Recorder()
    ckpt_path = settings.pop("ckpt_path", None)
    trainer(folder, epochs, **settings).fit(model, data, ckpt_path=ckpt_path)
    return model


def test_the_full_batch_is_one_object(tmp_path: Path) -> None:
    train, validation = batch(), batch(3)
    model = fit(tmp_path, StructureDataModule(train, validation), 3)
    assert all(seen is train for seen in model.objects[::2])
    assert all(seen is validation for seen in model.objects[1::2])
    assert len(model.objects) == 6


def test_minibatches_hold_every_structure_once(tmp_path: Path) -> None:
    train = batch()
    model = fit(tmp_path, StructureDataModule(train, batch(5), batch_size=3), 4)
    assert sorted(model.seen) == [0, 1, 2, 3]
    for batches in model.seen.values():
        assert [len(part) for part in batches] == [3, 3, 1]
        assert sorted(a for part in batches for a in part) == list(range(7))
    assert len({str(batches) for batches in model.seen.values()}) == 4
    assert model.validated == [[0, 1, 2], [3, 4]] * 4


def test_minibatches_hold_the_right_atoms() -> None:
    train = batch()
    for part in StructureDataModule(train, batch_size=2, seed=3).train_dataloader():
        for new, energy in enumerate(part.labels()):
            old = train.select([int(energy)])
            torch.testing.assert_close(part.select([new]).features, old.features, rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks:UserWarning")
@pytest.mark.parametrize(
    ("with_validation", "save_on_train_epoch_end"), [(False, True), (True, True), (True, False)]
)
@pytest.mark.parametrize("stop", [1, 3])
def test_a_resumed_training_sees_the_same_batches(
    tmp_path: Path, with_validation: bool, save_on_train_epoch_end: bool, stop: int
) -> None:
    def data() -> StructureDataModule:
        return StructureDataModule(batch(), batch(3) if with_validation else None, 2, seed=5)

    keep = ModelCheckpoint(
        tmp_path, "{epoch}", save_top_k=-1, save_on_train_epoch_end=save_on_train_epoch_end
    )
    whole = fit(tmp_path, data(), 6, callbacks=[keep], enable_checkpointing=True)
    torch.rand(17)  # a resumed process has another history of random numbers
    resumed = fit(tmp_path, data(), 6, ckpt_path=tmp_path / f"epoch={stop - 1}.ckpt")
    assert sorted(resumed.seen) == list(range(stop, 6))
    assert resumed.seen == {epoch: whole.seen[epoch] for epoch in range(stop, 6)}
    torch.testing.assert_close(resumed.linear.weight, whole.linear.weight, rtol=0, atol=0)


def test_order_depends_on_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int) -> list:
        sampler = EpochSampler(20, 6, seed)
        sampler.set_epoch(epoch)
        assert len(list(sampler)) == len(sampler) == 4
        return list(sampler)

    assert order(1, 2) == order(1, 2)
    assert order(1, 2) != order(1, 3)
    assert order(1, 2) != order(2, 2)
    assert order(1, 2) != order(2, 1)


@pytest.mark.parametrize(("size", "batches"), [(None, 1), (1, 7), (6, 2), (7, 1), (50, 1)])
def test_number_of_batches(size: int | None, batches: int) -> None:
    loader = StructureDataModule(batch(), batch_size=size).train_dataloader()
    assert len(loader) == len(list(loader)) == batches


@pytest.mark.parametrize("validation", [None, batch(3)], ids=["alone", "with validation"])
def test_no_warnings_but_the_one_about_workers(
    tmp_path: Path, validation: AtomBatch | None
) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = StructureDataModule(batch(), validation, batch_size=2)
        fit(tmp_path, data, 2, log_every_n_steps=1)
    messages = {str(w.message) for w in caught}
    assert {m for m in messages if "many workers" not in m and "LeafSpec" not in m} == set()


def test_a_trainer_validates_again_after_a_fit_without(tmp_path: Path) -> None:
    model, twice = Recorder(), trainer(tmp_path, 1)
    twice.fit(model, StructureDataModule(batch()))
    assert model.validated == []
    twice.fit_loop.max_epochs = 2
    twice.fit(model, StructureDataModule(batch(), batch(3)))
    assert model.validated == [[0, 1, 2]]


def test_a_full_batch_is_moved_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The meta device stands for an accelerator; AtomBatch itself cannot live there."""
    moves: list[torch.device] = []

    def move(self: AtomBatch, device: torch.device) -> AtomBatch:
        moves.append(device)
        moved = object.__new__(AtomBatch)
        object.__setattr__(moved, "features", self.features.to(device))
        return moved

    monkeypatch.setattr(AtomBatch, "to", move)
    data = StructureDataModule(batch(), batch(3))
    cpu, meta = torch.device("cpu"), torch.device("meta")
    assert data.transfer_batch_to_device(data.train, cpu, 0) is data.train
    assert moves == []
    first = data.transfer_batch_to_device(data.train, meta, 0)
    assert data.transfer_batch_to_device(data.train, meta, 0) is first
    assert moves == [meta]
    assert data.transfer_batch_to_device(data.validation, meta, 0) is not first
    part = data.train.select([1])
    data.transfer_batch_to_device(part, meta, 0)
    data.transfer_batch_to_device(part, meta, 0)
    assert moves == [meta] * 4


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_moving_to_cuda() -> None:
    data = StructureDataModule(batch())
    moved = data.transfer_batch_to_device(data.train, torch.device("cuda", 0), 0)
    assert moved is data.transfer_batch_to_device(data.train, torch.device("cuda", 0), 0)
    for name in ("features", "types", "structure", "energies"):
        assert getattr(moved, name).device == torch.device("cuda", 0)
        assert getattr(moved, name).dtype == getattr(data.train, name).dtype


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no energies"):
        StructureDataModule(batch(labels=False))
    with pytest.raises(InputError, match="no energies"):
        StructureDataModule(batch(), batch(labels=False))
    with pytest.raises(InputError, match="validation batch holds no structures"):
        StructureDataModule(batch(), batch().select([]))
    with pytest.raises(InputError, match="batch_size must be at least 1"):
        StructureDataModule(batch(), batch_size=0)
    with pytest.raises(InputError, match="seed"):
        StructureDataModule(batch(), seed=-1)


@pytest.mark.parametrize("precision", ["64-true", "bf16-true"])
def test_precisions_that_convert_batches(tmp_path: Path, precision: str) -> None:
    with pytest.raises(InputError, match=precision):
        fit(tmp_path, StructureDataModule(batch()), 1, precision=precision)


def test_processes_share_mini_batches_without_padding() -> None:
    def parts(rank: int) -> list:
        sampler = EpochSampler(7, 3, 5, rank, 2)
        sampler.set_epoch(1)
        return list(sampler)

    whole = EpochSampler(7, 3, 5)
    whole.set_epoch(1)
    assert [len(part) for part in parts(1)] == [1, 1, 0]
    for both, zero, one in zip(whole, parts(0), parts(1), strict=True):
        assert sorted(both) == sorted(zero + one)


def test_an_epoch_at_once_holds_the_same_batches_in_the_same_order():
    """Its order is set after the loader was asked for its iterator, as Lightning does."""
    resident = batch()
    one, whole = (EpochSampler(7, 3, 5, whole=whole) for whole in (False, True))
    for epoch in (0, 4):
        iterator = iter(whole)
        for sampler in (one, whole):
            sampler.set_epoch(epoch)
        (order,) = iterator
        assert order == list(one)
        assert (len(whole), len(one)) == (1, 3)
        batches = list(Epoch(ResidentStructures(resident, packed=False), order))
        for indices, part in zip(order, batches, strict=True):
            assert torch.equal(part.features, resident.select(indices).features)
