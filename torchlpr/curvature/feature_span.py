r"""LPR of many atoms in the span of the training features: fewer columns, the same numbers.

In a network the first layer's part of an atom's gradient is delta (x) x, and that of every row is
a sum of such. With an orthonormal basis V of the space that the rows' parts span, x splits into
V V^T x and a rest that no row reaches, so that

    g^T H^-1 g = g'^T H'^-1 g' + |delta|^2 |x - V V^T x|^2 / mu

with delta (x) V^T x in g' and as few columns in H'. SOAP power spectra span half of their
dimensions at most. What the rows have outside of V, E, changes the result by a factor within
1 + s + s^2 of one, s = |E| / sqrt(mu), which is computed and kept below a tolerance.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor, nn

from torchlpr.curvature.deflated_rows import DeflatedRows
from torchlpr.curvature.factor import QuadraticForm
from torchlpr.curvature.layered import LayerSignals, layer_signals, write_gradients
from torchlpr.curvature.row_space import RowSpace
from torchlpr.models import BehlerParrinelloMLP

__all__ = ["FeatureSpan", "feature_span_of_rows"]

OVERSAMPLING = 2  # rows of a sketch for every column
WORTH = 0.75  # of the columns, or nothing is gained
SAFETY = 0.1  # of the tolerance is spent by what a sketch sees


@dataclass(frozen=True)
class _FirstLayer:
    """Weights of one species' first layer: where they lie, there and here, and the basis."""

    full: slice
    small: slice
    basis: Tensor  # V, shape (features, r)


@dataclass(frozen=True)
class FeatureSpan:
    """Evaluates atoms of a network in the span of its training features.

    Attributes:
        factor: of the rows in the span, shape (M, P') with P' < P.
        error: bound of the relative error of g^T H^-1 g beside rounding.
    """

    factor: DeflatedRows
    error: float
    _model: BehlerParrinelloMLP
    _layers: tuple[_FirstLayer, ...]
    _memory: list[Tensor]

    def quadratic_form(self, features: Tensor, types: Tensor) -> QuadraticForm:
        """g^T H^-1 g of every atom.

        Args:
            features: shape (atoms, features).
            types: atomic numbers, shape (atoms,).

        Returns:
            Values and regulariser shares, shape (atoms,) each.
        """
        gradients, outside = self._gradients(features, types)
        value, regulariser = self.factor.quadratic_form_(gradients)
        return QuadraticForm(value + outside, regulariser + outside)

    def prepare(self) -> None:
        """Factorise what the first evaluation would."""
        if isinstance(self.factor.factor, RowSpace):
            _ = self.factor.factor.triangle

    def values(self, features: Tensor, types: Tensor) -> Tensor:
        """g^T H^-1 g of every atom without the regulariser's share, for less work.

        Args:
            features: shape (atoms, features).
            types: atomic numbers, shape (atoms,).

        Returns:
            Shape (atoms,).
        """
        gradients, outside = self._gradients(features, types)
        return self.factor.values_(gradients) + outside

    def _gradients(self, features: Tensor, types: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients in the span, and what the rest adds to a value, shape (atoms,)."""
        x = features.to(torch.float64)
        if not self._memory or len(self._memory[0]) < len(x):
            self._memory[:] = [x.new_empty(len(x), self.factor.n_parameters)]
        gradients, outside = self._memory[0][: len(x)], x.new_zeros(len(x))
        if len(self._model.types) > 1:
            gradients.zero_()
        write_gradients(self._reduced(x, types, outside), gradients)
        return gradients, outside / self.factor.mu

    def _reduced(self, x: Tensor, types: Tensor, outside: Tensor) -> Iterator[LayerSignals]:
        """Signals with the first layers' inputs in the span; squared norms of the rest."""
        shift = 0  # of the columns behind the first layers so far
        first = {layer.full.start: layer for layer in self._layers}
        for layer in layer_signals(self._model, x, types):
            assert layer.weight is not None
            if layer.weight.start in first:
                span = first[layer.weight.start]
                inside = layer.activation @ span.basis
                rest = torch.addmm(layer.activation, inside, span.basis.mT, alpha=-1)
                outside[layer.atoms] += rest.square().sum(1) * layer.signal.square().sum(1)
                shift = span.full.stop - span.small.stop
                weight, activation = span.small, inside
            else:
                weight, activation = _shifted(layer.weight, shift), layer.activation
            bias = None if layer.bias is None else _shifted(layer.bias, shift)
            yield LayerSignals(layer.atoms, layer.signal, activation, weight, bias)


def feature_span_of_rows(
    model: nn.Module, factor: RowSpace, tolerance: float, float32_error: float = 0.0
) -> FeatureSpan | None:
    """Find the span of the training features in the rows of a factor.

    Args:
        model: the network.
        factor: of the rows of all its weights.
        tolerance: largest relative error of g^T H^-1 g that may be made.
        float32_error: and that products in float32 may make, see
            :class:`torchlpr.curvature.deflated_rows.DeflatedRows`.

    Returns:
        The span, of all features where theirs is hardly smaller or the tolerance is below what
        rounding allows; None where the model is no network.
    """
    if not isinstance(model, BehlerParrinelloMLP) or factor.mu.ndim:
        return None
    reduced = _reduce_rows(model, factor, tolerance) if tolerance > 0 else None
    if reduced is None:
        return FeatureSpan(DeflatedRows(factor, float32_error), 0.0, model, (), [])
    columns, layers, error = reduced
    small = RowSpace(columns, factor.mu)
    return FeatureSpan(DeflatedRows(small, float32_error), error, model, layers, [])


def _reduce_rows(
    model: BehlerParrinelloMLP, factor: RowSpace, tolerance: float
) -> tuple[Tensor, tuple[_FirstLayer, ...], float] | None:
    """Rows in the span, where they lie, and the error; None where nothing is gained."""
    rows, root = factor.rows, sqrt(float(factor.mu))
    allowed = SAFETY * tolerance * root / sqrt(len(model.types))
    layers, parts, missed, done, shift = list[_FirstLayer](), list[Tensor](), 0.0, 0, 0
    for full, width in _first_layers(model):
        blocks = rows[:, full].unflatten(1, (width, model.n_features)).unbind(1)
        basis = _basis(blocks, allowed)
        reduced = torch.stack([block @ basis for block in blocks], dim=1)  # [M, width, r]
        for block, small in zip(blocks, reduced.unbind(1), strict=True):
            missed += float(torch.addmm(block, small, basis.mT, alpha=-1).square().sum())
        parts += [rows[:, done : full.start], reduced.flatten(1)]
        start = full.start - shift
        layers.append(_FirstLayer(full, slice(start, start + reduced[0].numel()), basis))
        done, shift = full.stop, full.stop - layers[-1].small.stop
    share = sqrt(missed) / root
    error = share * (1 + share)
    if error > tolerance or shift < (1 - WORTH) * rows.shape[1]:
        return None
    return torch.cat([*parts, rows[:, done:]], dim=1), tuple(layers), error


def _first_layers(model: BehlerParrinelloMLP) -> Iterator[tuple[slice, int]]:
    """Place and number of outputs of every species' first layer."""
    start = 0
    for network in model.networks:
        first = next(layer for layer in network.modules() if isinstance(layer, nn.Linear))
        yield slice(start, start + first.weight.numel()), first.out_features
        start += sum(p.numel() for p in network.parameters())


def _basis(blocks: tuple[Tensor, ...], allowed: float) -> Tensor:
    """Orthonormal basis of what the rows of matrices span, but for a small norm, by a sketch."""
    # random signed sums of rows have the same span; the caller measures what is missed
    count, columns = blocks[0].shape
    height = OVERSAMPLING * columns
    if count * len(blocks) <= height:
        sketch = torch.cat(blocks)
    else:
        generator = torch.Generator().manual_seed(0)
        sketch = blocks[0].new_zeros(height, columns)
        for block in blocks:
            target = torch.randint(height, (count,), generator=generator).to(block.device)
            sign = torch.randint(2, (count, 1), generator=generator).to(block) * 2 - 1
            sketch.index_add_(0, target, block * sign)
    triangle = torch.linalg.qr(sketch, mode="r").R
    _, values, right = torch.linalg.svd(triangle, full_matrices=False)
    tails = values.square().flip(0).cumsum(0).flip(0).sqrt()  # norm of what goes from here on
    return right[: int((tails > allowed).sum())].mT.contiguous()


def _shifted(place: slice, by: int) -> slice:
    return slice(place.start - by, place.stop - by)
