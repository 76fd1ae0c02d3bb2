"""How Adam trains: for how long, at which rate, on how many structures a step."""

from __future__ import annotations

from dataclasses import dataclass

from torchlpr.errors import InputError

__all__ = ["AdamSettings"]


@dataclass(frozen=True)
class AdamSettings:
    """How a network is trained; the defaults are the recipe of Chong et al. (2023).

    The learning rate is halved (or multiplied by ``factor``) at plateaus of the loss; with
    ``final_lr`` it falls exponentially from ``lr`` in the first to ``final_lr`` in the last step,
    and factor, patience and cooldown play no part.

    Attributes:
        epochs: passes over the training set.
        lr: Adam's learning rate.
        factor: factor of the learning rate where the loss stands still.
        patience: epochs without improvement before the rate falls.
        cooldown: epochs to wait after it fell.
        batch_size: structures a step, None for the full batch.
        seed: seed of the order of mini-batches.
        iterations: steps in all, in place of epochs; None for whole epochs.
        final_lr: learning rate at the end of an exponential decay, None for plateaus.
        early_stopping: epochs without a lower validation error after which training ends, with
            the weights of least validation error; None trains to the end.
    """

    epochs: int = 2000
    lr: float = 0.005
    factor: float = 0.5
    patience: int = 100
    cooldown: int = 100
    batch_size: int | None = None
    seed: int = 0
    iterations: int | None = None
    final_lr: float | None = None
    early_stopping: int | None = None

    def __post_init__(self) -> None:
        if self.epochs < 1 or not self.lr > 0 or not 0 < self.factor < 1:
            raise InputError(
                f"epochs must be positive, lr positive and factor between 0 and 1, not "
                f"{self.epochs}, {self.lr} and {self.factor}"
            )
        size = self.batch_size
        if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
            raise InputError(
                f"batch_size must be at least 1, a whole number, or None for all, not {size!r}"
            )
        if self.iterations is not None and self.iterations < 1:
            raise InputError(
                f"iterations must be positive, or None to train for whole epochs, not "
                f"{self.iterations}"
            )
        if self.final_lr is not None and not 0 < self.final_lr <= self.lr:
            raise InputError(
                f"final_lr must be positive and at most lr, from which the rate decays "
                f"exponentially, not {self.final_lr} with lr {self.lr}"
            )

        if self.early_stopping is not None and self.early_stopping < 1:
            raise InputError(f"early_stopping must be positive, not {self.early_stopping}")

    @classmethod
    def yoo(cls, seed: int = 0) -> AdamSettings:
        """Batches of four structures, and a rate that decays over 100,000 steps.

        Source: Yoo et al., Phys. Rev. Mater. 3, 093802 (2019), supplemental material,
        doi:10.1103/PhysRevMaterials.3.093802.

        Args:
            seed: of the order of mini-batches.

        Returns:
            The settings for crystal and slab; the L2 coefficient is the objective's.
        """
        return cls(batch_size=4, seed=seed, iterations=100_000, lr=0.01, final_lr=0.00017)

    def length(self, n_structures: int) -> tuple[int, int]:
        """Epochs, the last of which may be cut short, and steps.

        Args:
            n_structures: structures of the training set.

        Returns:
            The two numbers.
        """
        batches = 1 if self.batch_size is None else -(-n_structures // max(1, self.batch_size))
        if self.iterations is None:
            return self.epochs, self.epochs * batches
        return -(-self.iterations // batches), self.iterations

    def decay(self, steps: int) -> float | None:
        """Factor of the learning rate from one step to the next, None where plateaus decide.

        Args:
            steps: steps in all.

        Returns:
            (final_lr / lr)^(1 / (steps - 1)).
        """
        if self.final_lr is None:
            return None
        return float((self.final_lr / self.lr) ** (1 / max(1, steps - 1)))
