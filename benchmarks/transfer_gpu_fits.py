"""Second moments, fits and projections on a device, for ``benchmarks.transfer_gpu``."""

from __future__ import annotations

from collections.abc import Callable
from unittest import mock

import torch

from benchmarks.transfer_gpu_clock import Ceilings, Floor, Row, relative_error, seconds
from ual_registry.projection import paired_rows
from ual_registry.projection.factors import Factors
from ual_registry.projection.maps import Direction, procrustes, ridge
from ual_registry.projection.methods import SHAPE_METHODS, project
from ual_registry.projection.moments import PairMoments
from ual_registry.projection.residual import reduced_rank_ridge
from ual_registry.projection.subspace import subspace

__all__ = ["classic_rows", "fit_rows", "statistics_floor", "statistics_rows"]

_WIDTHS = ((576, 640), (1536, 2048), (4096, 4096), (11008, 11008))
_TINY_WIDTHS = ((24, 32), (64, 48))
_RANK = 16


def _rows(count: int, width: int, device: str, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Return rows of a spectrum that falls, as activations have one, the same on every device."""
    made = torch.randn(count, width, generator=torch.Generator().manual_seed(width), dtype=torch.float64)
    return (made * torch.linspace(1, 0.05, width, dtype=torch.float64) + 0.3).to(device, dtype)


def _moments(count: int, widths: tuple[int, int], device: str, dtype: torch.dtype = torch.float64) -> PairMoments:
    found = PairMoments(*widths, device=device)
    x = _rows(count, widths[0], device, dtype)
    found.update(x, _rows(count, widths[1], device, dtype) + x[:, :1])
    return found


def statistics_floor(ceilings: Ceilings, count: int, widths: tuple[int, int], dtype: torch.dtype) -> Floor:
    """Return the least time to add rows to second moments: two symmetric sums, half of which counts, and one other."""
    cells = widths[0] ** 2 / 2 + widths[1] ** 2 / 2 + widths[0] * widths[1]
    moved = 2 * 8 * cells + count * sum(widths) * dtype.itemsize
    return ceilings.floor({dtype: 2 * count * cells}, moved)


def statistics_rows(device: str, ceilings: Ceilings, *, is_tiny: bool) -> list[Row]:
    """Add a batch of paired rows, as the two models give them, to sums in float64."""
    count, found = (256, []) if is_tiny else (1024, [])
    errors = {dtype: _statistics_error(device, dtype) for dtype in (torch.float32, torch.float64)}
    for widths in _TINY_WIDTHS if is_tiny else _WIDTHS:
        for dtype in (torch.float32, torch.float64):
            x, y = (_rows(count, width, device, dtype) for width in widths)
            moments = PairMoments(*widths, device=device)
            time_s = seconds(device, lambda moments=moments, x=x, y=y: moments.update(x, y))
            name = f"{widths[0]} and {widths[1]} features, {str(dtype).removeprefix('torch.')} rows"
            floor = statistics_floor(ceilings, count, widths, dtype)
            found.append(
                Row(name=name, time_s=time_s, rate=_per(count, time_s, "rows"), floor=floor, error=errors[dtype])
            )
    if device == "cuda":
        with mock.patch.object(paired_rows, "_BLOCK_ON_GPU", 256):
            x, y = (_rows(count, 4096, device, torch.float32) for _ in range(2))
            moments = PairMoments(4096, 4096, device=device)
            time_s = seconds(device, lambda: moments.update(x, y))
        floor = statistics_floor(ceilings, count, (4096, 4096), torch.float32)
        name = "4096 and 4096 features, float32 rows, in the blocks of a CPU"
        found.append(Row(name=name, time_s=time_s, rate=_per(count, time_s, "rows"), floor=floor))
    return found


def _statistics_error(device: str, dtype: torch.dtype) -> float:
    own, other = (_moments(400, (48, 40), place, dtype).centred() for place in (device, "cpu"))
    exact = _moments(400, (48, 40), "cpu").centred()
    parts = ((own.xx, exact.xx), (own.xy, exact.xy), (own.yy, exact.yy), (own.x_mean, other.x_mean))
    return max(relative_error(*part) for part in parts)


def _per(count: float, time_s: float, unit: str) -> str:
    return f"{count / time_s:,.0f} {unit}/s"


def fit_rows(device: str, ceilings: Ceilings, *, is_tiny: bool) -> list[Row]:
    """Fit maps and updates to moments, each beside the factorisation that it cannot do without."""
    width, turned = (48, 32) if is_tiny else (4096, 2048)
    moments, small = _moments(3 * width, (width, width), device), _moments(3 * turned, (turned, turned), device)
    gram = moments.centred().xx / moments.count
    _warm(device)
    found = []
    cholesky = _peer(device, f"Cholesky factor and solution, {width}", lambda: _solved(gram))
    cubed = ceilings.floor({torch.float64: width**3 / 3 + 2 * width**3}, 3 * 8 * width**2)
    found.append(Row(name=cholesky.name, time_s=cholesky.time_s, floor=cubed))
    found.append(_fit(device, f"ridge, {width}, penalty 0.01", moments, _ridge, cholesky))
    eigh = _peer(device, f"eigenvectors, {width}", lambda: torch.linalg.eigh(gram))
    found += [eigh, _fit(device, f"ridge, {width}, penalty 0", moments, _least_norm, eigh)]
    found.append(_fit(device, f"reduced-rank ridge, {width}, rank {_RANK}", moments, _reduced, eigh))
    cross = small.centred().xy
    svd = _peer(device, f"singular vectors, {turned}", lambda: torch.linalg.svd(cross, full_matrices=False))
    found += [svd, _fit(device, f"Procrustes, {turned}", small, _procrustes, svd)]
    return found


def _warm(device: str) -> None:
    """Load what a device factors with, so that no time has it in it."""
    own = _rows(96, 48, device)
    gram = own.T @ own
    _solved(gram), torch.linalg.eigh(gram), torch.linalg.svd(gram)


def _solved(gram: torch.Tensor) -> torch.Tensor:
    shifted = gram + 0.01 * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    return torch.cholesky_solve(gram, torch.linalg.cholesky(shifted))


def _ridge(moments: PairMoments) -> torch.Tensor:
    return ridge(moments, penalty=0.01, direction=Direction.X_TO_Y).matrix


def _least_norm(moments: PairMoments) -> torch.Tensor:
    return ridge(moments, penalty=0.0, direction=Direction.X_TO_Y).matrix


def _procrustes(moments: PairMoments) -> torch.Tensor:
    return procrustes(moments, direction=Direction.X_TO_Y).matrix


def _reduced(moments: PairMoments) -> torch.Tensor:
    own = moments.uncentred()
    found = reduced_rank_ridge(own.xx, own.xy, 0.01, _RANK)
    return found.lora_B @ found.lora_A


def _peer(device: str, name: str, task: Callable[[], object]) -> Row:
    return Row(name=f"(peer) {name}", time_s=seconds(device, task, runs=3, warm_up=False))


def _fit(device: str, name: str, moments: PairMoments, fit: Callable[[PairMoments], torch.Tensor], peer: Row) -> Row:
    time_s = seconds(device, lambda: fit(moments), runs=3, warm_up=False)
    error = relative_error(fit(_moments(300, (40, 40), device)), fit(_moments(300, (40, 40), "cpu")))
    return Row(name=name, time_s=time_s, peer=f"{peer.time_s / time_s:.1%} of its time is the peer's", error=error)


_SHAPES = (*((4096, 4096),) * 4, (4096, 11008), (4096, 11008), (11008, 4096))
"""(in, out) of the seven modules of a layer of Llama-2-7B."""
_WIDER = (*((5120, 5120),) * 4, (5120, 13824), (5120, 13824), (13824, 5120))
"""Those of Llama-2-13B."""


def classic_rows(device: str, ceilings: Ceilings, *, is_tiny: bool) -> list[Row]:
    """Project an adapter by shapes alone, on the device and on the CPU, and one module through singular subspaces."""
    layers, shrink = (2, 64) if is_tiny else (32, 1)
    shapes, wider = ([(in_ // shrink, out // shrink) for in_, out in some] * layers for some in (_SHAPES, _WIDER))
    read, written = (sum(map(sum, some)) * _RANK for some in (shapes, wider))
    found, layer = [], [_update(shape, "cpu") for shape in shapes[: len(_SHAPES)]]
    for place in dict.fromkeys((device, "cpu")):
        updates = [Factors(own.lora_A.to(place, copy=True), own.lora_B.to(place, copy=True)) for own in layer * layers]
        for method in SHAPE_METHODS:

            def run(updates: list[Factors] = updates, method: str = method) -> None:
                for own, to in zip(updates, wider, strict=True):
                    project(own, method, *to)

            time_s = seconds(place, run, runs=3)
            # What a method gives in float64 is twice as long as what it read.
            floor = ceilings.floor({}, 4 * read + (4 if method == "truncate" else 8) * written)
            error = _projection_error(method, device) if place == device else None
            rate = f"{time_s / len(shapes) * 1e3:.2g} ms a module"
            name = f"{method}, on {place}"
            found.append(
                Row(name=name, time_s=time_s, rate=rate, floor=floor if place == device else None, error=error)
            )
    return [*found, *_subspace_rows(device, is_tiny=is_tiny)]


def _update(shape: tuple[int, int], device: str, dtype: torch.dtype = torch.float32) -> Factors:
    lora_A, lora_B = _rows(_RANK, shape[0], device, dtype), _rows(shape[1], _RANK, device, dtype)
    return Factors(lora_A, lora_B)


def _projection_error(method: str, device: str) -> float:
    found = [project(_update((48, 40), place, torch.float64), method, 32, 56).factors for place in (device, "cpu")]
    own, other = (item.lora_B @ item.lora_A for item in found)
    return relative_error(own, other)


def _subspace_rows(device: str, *, is_tiny: bool) -> list[Row]:
    shapes = ((24, 64), (32, 80)) if is_tiny else ((576, 1536), (640, 2048))
    weights = [_rows(out, in_, device) for in_, out in shapes]
    own = _update(shapes[0], device)
    peer = _peer(
        device,
        f"singular vectors of both weights, {shapes[0]} and {shapes[1]}",
        lambda: [torch.linalg.svd(weight, full_matrices=False) for weight in weights],
    )
    time_s = seconds(device, lambda: subspace(own, weights[0], weights[1]), runs=3)
    k = min(shapes[0]) // 2
    found = [subspace(own.to(place), *(weight.to(place) for weight in weights), k=k) for place in (device, "cpu")]
    # The product does not hang on signs, which are fixed.
    error = relative_error(found[0].lora_B @ found[0].lora_A, found[1].lora_B @ found[1].lora_A)
    return [
        peer,
        Row(
            name="subspace, one module",
            time_s=time_s,
            peer=f"{peer.time_s / time_s:.1%} of its time is the peer's",
            error=error,
        ),
    ]
