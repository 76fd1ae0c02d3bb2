"""Memory of the curvature, predicted from sizes alone, before anything is allocated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from torch import nn

from torchlpr.curvature.factor import Factor
from torchlpr.curvature.gradients import CHUNK_BYTES
from torchlpr.errors import InputError
from torchlpr.free_memory import format_bytes, memory_limit
from torchlpr.models import BehlerParrinelloMLP

__all__ = [
    "Memory",
    "ShapeName",
    "check_change",
    "evaluation_chunk",
    "fitting_chunk",
    "fitting_shape",
    "gradient_copies",
    "needs_in_words",
    "predict_memory",
    "shapes_that_fit",
]

# networks write into memory that is kept: no fresh pages are asked for, and wider products pay
KEPT_BYTES = 60 * 2**20
LIBRARIES = 32 * 2**20  # buffers of BLAS and LAPACK, and pages that the allocator keeps
TOGETHER = 32  # gradients that go through a factor at one reading, while they are a quarter of it
ShapeName = Literal["row", "parameter"]
NAMES: dict[ShapeName, str] = {"row": "row space", "parameter": "parameter space"}


class Memory(NamedTuple):
    """Bytes above the model, the features and the interpreter.

    Attributes:
        held: kept as long as the factor lives.
        build: at most needed beside it while it is built.
        evaluate: at most needed beside it while one chunk of atoms is evaluated.
        sweep: at most needed beside it for a sweep over mu, with one chunk of atoms.
    """

    held: int
    build: int
    evaluate: int
    sweep: int

    @property
    def peak(self) -> int:
        """The most while it is built and evaluated."""
        return self.held + max(self.build, self.evaluate)


def gradient_copies(model: nn.Module) -> int:
    """How many times a chunk of gradients is held at most while it is made."""
    return 1 if isinstance(model, BehlerParrinelloMLP) else 3


def predict_memory(
    shape: ShapeName,
    n_rows: int,
    n_parameters: int,
    n_atoms: int = 0,
    chunk: int = 1,
    copies: int = 3,
) -> Memory:
    """Upper bound of the memory of a factorised Hessian.

    Args:
        shape: "row" or "parameter".
        n_rows: number M of rows.
        n_parameters: number P of weights.
        n_atoms: atoms to evaluate, which have two numbers each.
        chunk: gradients at a time, both of atoms and of the structures that become rows.
        copies: of a chunk while it is made, see :func:`gradient_copies`.

    Returns:
        The prediction.
    """
    m, p, rank = n_rows, n_parameters, min(n_rows, n_parameters)
    made = min(chunk, m)  # structures at a time
    asked = min(chunk, n_atoms) if n_atoms else chunk
    if shape == "row":
        held = m * p + 2 * m * m  # rows, Gram matrix while it is built, triangle
        step = max(m, 1024)
        algebra = max(4 * m * m, min(8 * m * m, 4 * m * step) + m * step)
        rows = made * (copies * p + m + 2 * made)
        gradients = asked * (max(2 * copies, 3) * p // 2 + 4 * m)
        decomposition = 3 * m * p + 8 * rank * rank
    else:
        held, algebra = p * p, 6 * p * p
        rows, gradients = 3 * made * p, 5 * asked * p
        decomposition = 9 * p * p
    numbers = 4 * n_atoms  # two for each atom, in parts and joined
    sweep = max(decomposition, rank * p + 4 * asked * p) + numbers
    parts = held, algebra + rows, gradients + numbers, sweep
    return Memory(*(8 * part + (i > 0) * LIBRARIES for i, part in enumerate(parts)))


def evaluation_chunk(
    shape: ShapeName, n_rows: int, n_parameters: int, limit: int, copies: int = 3
) -> int:
    """Gradients at a time that fit, at most 30 MiB of them.

    Args:
        shape: "row" or "parameter".
        n_rows: number M of rows.
        n_parameters: number P of weights.
        limit: bytes.
        copies: of a chunk while it is made.

    Returns:
        The number, zero if not even one fits.
    """
    most = max(1, CHUNK_BYTES // (8 * max(1, n_parameters)))

    def peak(chunk: int) -> int:
        return predict_memory(shape, n_rows, n_parameters, chunk=chunk, copies=copies).peak

    return _largest(most, lambda chunk: peak(chunk) <= limit)


def fitting_chunk(
    factor: Factor,
    n_atoms: int,
    limit: int | None,
    device: torch.device,
    sweep: bool = False,
    copies: int = 3,
) -> int:
    """Gradients at a time with a factor that is there already.

    Args:
        factor: in row space or parameter space; any other gets 30 MiB of gradients.
        n_atoms: atoms to evaluate.
        limit: bytes with the factor, or None for three quarters of what is free beside it.
        device: where the work is done.
        sweep: whether for a sweep over mu.
        copies: of a chunk while it is made.

    Returns:
        The number, at least one.

    Raises:
        InputError: if not even one gradient fits.
    """
    shape = {name: shape for shape, name in NAMES.items()}.get(factor.shape_name)
    p = max(1, factor.n_parameters)
    if shape is None:
        return max(1, CHUNK_BYTES // (8 * p))
    most = max(1, (KEPT_BYTES if copies == 1 and not sweep else CHUNK_BYTES) // (8 * p))
    held = predict_memory(shape, factor.n_rows, p).held
    # very long gradients: some at a time, or every one would read the whole factor again
    most = max(most, min(TOGETHER, held // (4 * 8 * p)))
    bytes_ = memory_limit(limit, device) + (held if limit is None else 0)

    def needs(chunk: int) -> int:
        memory = predict_memory(shape, factor.n_rows, p, n_atoms, chunk, copies)
        return memory.held + (memory.sweep if sweep else memory.evaluate)

    if needs(1) > bytes_:
        raise InputError(
            f"{n_atoms} atoms{' in a sweep' if sweep else ''} need {format_bytes(needs(1))} beside "
            f"{p} parameters, more than the memory limit of {format_bytes(bytes_)}: ask for fewer "
            "atoms, or raise memory_limit"
        )
    return _largest(most, lambda chunk: needs(chunk) <= bytes_)


def check_change(factor: Factor, count: int, limit: int | None, device: torch.device) -> None:
    """Refuse a change of rows whose new factor does not fit beside the old one.

    Args:
        factor: in row space or parameter space; any other is let pass.
        count: rows to add or to take out.
        limit: bytes with both factors, or None for three quarters of what is free beside the
            old one.
        device: where the work is done.

    Raises:
        InputError: with the sizes.
    """
    shape = {name: shape for shape, name in NAMES.items()}.get(factor.shape_name)
    if shape is None:
        return
    held = predict_memory(shape, factor.n_rows, factor.n_parameters).held
    new = predict_memory(shape, factor.n_rows + count, factor.n_parameters, chunk=count)
    bytes_ = memory_limit(limit, device) + (held if limit is None else 0)
    needs = held + new.held + new.build
    if needs > bytes_:
        raise InputError(
            f"changing {count} of {factor.n_rows} rows needs {format_bytes(needs)}, more than the "
            f"memory limit of {format_bytes(bytes_)}: change fewer at a time, or raise memory_limit"
        )


def fitting_shape(
    order: Sequence[ShapeName], n_rows: int, n_parameters: int, limit: int
) -> tuple[ShapeName, str]:
    """The first shape that fits.

    Args:
        order: shapes by preference.
        n_rows: number M of rows.
        n_parameters: number P of weights.
        limit: bytes.

    Returns:
        The shape, and the least memory it takes in words.

    Raises:
        InputError: with sizes and alternatives, if none fits.
    """
    for shape in shapes_that_fit(order, n_rows, n_parameters, limit):
        peak = predict_memory(shape, n_rows, n_parameters).peak
        return shape, f"at least {format_bytes(peak)}"
    needs = needs_in_words(order, n_rows, n_parameters)
    raise InputError(
        f"{n_rows} rows of {n_parameters} parameters need {needs}, more than the memory limit of "
        f"{format_bytes(limit)}: {_remedies(order, n_rows, n_parameters, limit)}"
    )


def shapes_that_fit(
    order: Sequence[ShapeName], n_rows: int, n_parameters: int, limit: int
) -> list[ShapeName]:
    """Those of the shapes whose predicted peak is within a limit of bytes."""
    return [s for s in order if predict_memory(s, n_rows, n_parameters).peak <= limit]


def needs_in_words(order: Sequence[ShapeName], n_rows: int, n_parameters: int) -> str:
    """The predicted peak of each shape, such as "3 GB in row space"."""
    peaks = {s: predict_memory(s, n_rows, n_parameters).peak for s in order}
    return " and ".join(f"{format_bytes(peak)} in {NAMES[s]}" for s, peak in peaks.items())


def _remedies(shapes: Sequence[ShapeName], n_rows: int, n_parameters: int, limit: int) -> str:
    """What would fit."""

    def fits(rows: int, parameters: int) -> bool:
        return any(predict_memory(s, rows, parameters).peak <= limit for s in shapes)

    ways = []
    structures = _largest(n_rows, lambda m: fits(m, n_parameters))
    parameters = _largest(n_parameters, lambda p: fits(n_rows, p))
    if structures:
        ways.append(f"take at most {structures} structures (rows, with forces)")
    if parameters:
        ways.append(f"take at most {parameters} parameters (a smaller network, or a part of it)")
    ways += [
        f"use shape={shape!r}"
        for shape in NAMES
        if shape not in shapes and predict_memory(shape, n_rows, n_parameters).peak <= limit
    ]
    return ", ".join([*ways, "or raise memory_limit"])


def _largest(most: int, fits: Callable[[int], bool]) -> int:
    """Largest number up to ``most`` that fits, zero if none does."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low
