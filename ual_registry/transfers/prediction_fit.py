"""How updates are fitted to predictions: settings, the rows to fit on, and one sweep over them.

It decides which positions count. What is wanted of the target at each is left to ``wanted_predictions``, the order of
the work to ``run_predictions``, the mathematics to ``projection``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from ual_registry.errors import TransferError
from ual_registry.models.aligned_text import AlignedText
from ual_registry.models.fit_device import fit_device
from ual_registry.projection.contexts import PredictionContext
from ual_registry.projection.joint_ridge import JointFit, JointRows
from ual_registry.projection.methods import PREDICTIONS
from ual_registry.projection.token_change import state_change
from ual_registry.transfers.collect import CollectOptions
from ual_registry.transfers.final_state import FinalState, NormShape
from ual_registry.transfers.requirements import require_positions
from ual_registry.transfers.sites import Reader, Side, Site
from ual_registry.transfers.source_change import TokenRows
from ual_registry.transfers.wanted_predictions import Wanted

__all__ = ["PredictionOptions", "Readings", "Sweep", "choose_rows", "fit_sweep", "read_target"]

_CHUNK = 64
"""Rows whose tokens' directions are held at once: of 96 tokens and 4,096 features they take 200 MiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionOptions:
    """How updates are fitted to predictions, and where they go.

    Attributes:
        roles: Which modules of each layer get an update.
        layers: Which layers of the target; the last third where absent.
        rank: The rank that each sweep adds to a module.
        sweeps: How often what is still lacking is fitted.
        penalties: Of the joint ridge; the one that predicts held-out text best is taken, per sweep.
        state_penalty: Of a change of the target's last state, per squared unit, in nats.
        tokens: How many tokens, and groups of them, are told apart at a position.
        teacher_weight: From 0, where the target's predictions are changed as the adapter changes the source's, to 1,
            where they become what source and adapter say.
        max_rows: The most positions to fit on.
        top_share: Share (0..1) of them that are those where the adapter changes most. The others are drawn at random:
            half for answers, which stand at few positions; none for a style, which is everywhere.
        seed: Of the draw.
        text: How text is read.
        any_base: Whether to take base models that are not those of the adapter and the plan.
    """

    roles: tuple[str, ...] = ("mlp_down",)
    layers: tuple[int, ...] | None = None
    rank: int = 32
    sweeps: int = 2
    penalties: tuple[float, ...] = (0.3, 0.1, 0.03, 0.01)
    state_penalty: float = 0.05
    tokens: int = 96
    teacher_weight: float = 0.5
    max_rows: int = 4000
    top_share: float = 0.5
    seed: int = 0
    text: CollectOptions = field(default_factory=CollectOptions)
    any_base: bool = False

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing.

        Raises:
            TransferError: A number is out of its range, or there is no penalty.
        """
        wrong = {
            "roles": not self.roles or len(set(self.roles)) < len(self.roles),
            "rank": self.rank < 1,
            "sweeps": self.sweeps < 1,
            "state_penalty": not 0 < self.state_penalty < float("inf"),
            "tokens": self.tokens < 1,
            "teacher_weight": not 0 <= self.teacher_weight <= 1,
            "max_rows": self.max_rows < 2,
            "top_share": not 0 <= self.top_share <= 1,
        }
        for name, is_wrong in wrong.items():
            if is_wrong:
                raise TransferError(f"{name}: got {getattr(self, name)}, which is out of range", code="bad-option")
        if not self.penalties or not all(0 < penalty < float("inf") for penalty in self.penalties):
            raise TransferError("penalties: expected at least one number above 0", code="bad-option")


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """What the target computes at the chosen positions.

    Attributes:
        features: What each module reads, over the size of what it writes where a norm stands behind it.
        states: The normed states that logits are made from, shape (n, d), float64.
        sizes: By what the last norm divides, shape (n, 1), float64.
    """

    features: tuple[torch.Tensor, ...]
    states: torch.Tensor
    sizes: torch.Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """What a sweep fitted.

    Attributes:
        fit: The updates in the residual stream's terms.
        divergence: Mean KL between what is wanted and what the target predicts on held-out rows before it, in nats.
    """

    fit: JointFit
    divergence: float


def choose_rows(rows: TokenRows, is_held_out: torch.Tensor, options: PredictionOptions) -> torch.Tensor:
    """Return the indices of the positions to use, ascending: to fit on, and a quarter as many held-out ones at most.

    Args:
        rows: All positions.
        is_held_out: Whether each belongs to a held-out passage, shape (n,).
        options: How many, and the seed.

    Raises:
        TransferError: There are fewer than two positions of either kind.
    """
    counts = int((~is_held_out).sum()), int(is_held_out.sum())
    require_positions(*counts)
    generator = torch.Generator().manual_seed(options.seed)
    parts = ((~is_held_out, options.max_rows), (is_held_out, max(options.max_rows // 4, 2)))
    chosen = [
        _chosen(part.nonzero()[:, 0], rows.divergence, (most, int(most * options.top_share)), generator)
        for part, most in parts
    ]
    return torch.cat(chosen).sort().values


def _chosen(
    index: torch.Tensor, divergence: torch.Tensor, counts: tuple[int, int], generator: torch.Generator
) -> torch.Tensor:
    """Return so many of some positions in all, the first of them by their divergence, the others at random."""
    most, top = counts
    if len(index) <= most:
        return index
    ordered = index[divergence[index].argsort(descending=True, stable=True)]
    rest = ordered[top:]
    return torch.cat([ordered[:top], rest[torch.randperm(len(rest), generator=generator)[: most - top]]])


def read_target(
    reader: Reader,
    texts: Sequence[AlignedText],
    rows: TokenRows,
    *,
    final: FinalState,
    norms_behind: Mapping[str, NormShape],
    paths: Sequence[str],
) -> Readings:
    """Run the target, with whatever is attached to it, and read it at the chosen positions.

    Args:
        reader: Of the target.
        texts: The passages.
        rows: The positions, passage by passage.
        final: The way from its residual stream to its logits.
        norms_behind: The norms behind its modules, by their paths.
        paths: The modules that are to get updates.
    """
    sites = [Site(final.path, Side.INPUT), Site(final.path, Side.OUTPUT)]
    sites += [Site(path, side) for path in paths for side in (Side.INPUT, Side.OUTPUT)]
    parts: dict[Site, list[torch.Tensor]] = {site: [] for site in sites}
    for index in sorted(set(rows.passages.tolist())):
        positions = rows.positions[rows.passages == index].tolist()
        for site, value in reader.rows(texts[index].target_ids, positions, sites).items():
            parts[site].append(value.float().cpu())
    read = {site: torch.cat(values) for site, values in parts.items()}
    states = read[Site(final.path, Side.OUTPUT)]
    features = []
    for path in paths:
        x, norm = read[Site(path, Side.INPUT)], norms_behind.get(path)
        features.append(x if norm is None else x / norm.size(read[Site(path, Side.OUTPUT)]).to(x))
    return Readings(
        features=tuple(features),
        states=states.double(),
        sizes=final.norm.size(read[Site(final.path, Side.INPUT)]),
    )


def fit_sweep(
    found: Readings,
    logs: torch.Tensor,
    wanted: Wanted,
    *,
    is_held_out: torch.Tensor,
    final: FinalState,
    options: PredictionOptions,
) -> Sweep:
    """Fit updates to what the target still lacks.

    Args:
        found: What it computes with what is fitted so far.
        logs: Logarithms of what it predicts of the wanted tokens, and of the rest, shape (n, k + 1).
        wanted: What it should predict.
        is_held_out: Which of them are held out, shape (n,).
        final: The way from its residual stream to its logits.
        options: Penalties and rank.
    """
    changes, before = [], []
    mean, device = final.table.mean(dim=0), fit_device(final.table.device)
    for index in torch.split(torch.arange(len(logs)), _CHUNK):
        directions = (final.table[wanted.tokens[index].to(mean.device)] - mean).to(device)
        rest = directions.new_zeros(len(index), 1, directions.shape[2])
        directions = torch.cat([directions, rest], dim=1)
        own, chances = logs[index].to(device), wanted.chances[index].to(device)
        change = state_change(own, chances, directions, penalty=options.state_penalty)
        changes.append(change.change.cpu())
        before.append(change.before.cpu())
    lacking = found.sizes * torch.cat(changes) / final.norm.gain
    parts = [_part(found.features, lacking, index).to(device) for index in (~is_held_out, is_held_out)]
    context = PredictionContext(fit=parts[0], held_out=parts[1], rank=options.rank, penalties=options.penalties)
    fit = PREDICTIONS.fit(context)
    fit = replace(fit, factors=tuple(own.to("cpu") for own in fit.factors))
    return Sweep(fit=fit, divergence=float(torch.cat(before)[is_held_out].mean()))


def _part(features: Sequence[torch.Tensor], wanted: torch.Tensor, index: torch.Tensor) -> JointRows:
    return JointRows(features=tuple(item[index] for item in features), wanted=wanted[index])
