"""Streaming statistics of paired rows: everything that the linear maps between two models are computed from.

Rows are activations; row i of both sides belongs to one position of one text. Batches of any floating dtype come in,
sums are kept in float64, and memory is that of the second moments, however many rows come. Products are taken around
the means of their batch, so that features far from zero lose no digits, and of a symmetric sum only the upper blocks.
Rows of float32 are multiplied in float32 (see ``paired_rows``), which leaves a relative error near 1e-6.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from ual_registry.errors import ShapeError
from ual_registry.projection.moment_state import checked_state, stored_width
from ual_registry.projection.paired_rows import add_gram, add_products, finite_pairs, mirrored

__all__ = ["Moments", "PairMoments", "SecondMoments"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondMoments:
    """Sums of products of paired rows around a point; all float64.

    Attributes:
        count: How many rows.
        x_mean: The point on the left side, shape (d_x,): its mean, or zeros where not centred.
        y_mean: The same on the right side, shape (d_y,).
        xx: Sum of x x^T, shape (d_x, d_x).
        yy: Sum of y y^T, shape (d_y, d_y).
        xy: Sum of x y^T, shape (d_x, d_y).
    """

    count: int
    x_mean: torch.Tensor
    y_mean: torch.Tensor
    xx: torch.Tensor
    yy: torch.Tensor
    xy: torch.Tensor

    def swapped(self) -> SecondMoments:
        """Return the same moments with the sides exchanged."""
        return SecondMoments(
            count=self.count, x_mean=self.y_mean, y_mean=self.x_mean, xx=self.yy, yy=self.xx, xy=self.xy.T
        )


class PairMoments:
    """First and second moments of paired rows of two widths, in one pass.

    Source: Chan, Golub and LeVeque, Updating formulae and a pairwise algorithm for computing sample variances, 1979,
    equation 2.1, for pairs.

    Attributes:
        count: How many rows were taken.
        rejected: How many rows were left out because a number in them was not finite.

    Args:
        x_width: Features of the left side (the source), d_x.
        y_width: Features of the right side (the target), d_y.
        device: Where the sums are kept; it must know float64.
    """

    __slots__ = ("_x_mean", "_xx", "_xy", "_y_mean", "_yy", "count", "rejected")

    def __init__(self, x_width: int, y_width: int, *, device: torch.device | str = "cpu") -> None:
        self.count = 0
        self.rejected = 0
        self._x_mean = torch.zeros(x_width, dtype=torch.float64, device=device)
        self._y_mean = torch.zeros(y_width, dtype=torch.float64, device=device)
        self._xx = torch.zeros(x_width, x_width, dtype=torch.float64, device=device)
        self._yy = torch.zeros(y_width, y_width, dtype=torch.float64, device=device)
        self._xy = torch.zeros(x_width, y_width, dtype=torch.float64, device=device)

    @property
    def x_width(self) -> int:
        """Features of the left side."""
        return len(self._x_mean)

    @property
    def y_width(self) -> int:
        """Features of the right side."""
        return len(self._y_mean)

    def to(self, device: torch.device | str) -> PairMoments:
        """Return the same moments on a device; these ones where they are there already."""
        if self._xx.device == torch.device(device):
            return self
        found = PairMoments(0, 0)
        found.count, found.rejected = self.count, self.rejected
        for name in ("_x_mean", "_y_mean", "_xx", "_yy", "_xy"):
            setattr(found, name, getattr(self, name).to(device))
        return found

    def update(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Take a batch of paired rows.

        A pair with a number that is not finite is left out and counted in ``rejected``.

        Args:
            x: Shape (n, d_x), any floating dtype and device.
            y: Shape (n, d_y), likewise.

        Raises:
            ShapeError: The shapes do not fit one another or the widths.
        """
        widths = (self.x_width, self.y_width)
        x, y, rejected = finite_pairs(x, y, widths=widths, names=("x", "y"), device=self._xx.device)
        self.rejected += rejected
        if len(x):
            means = x.mean(0, dtype=torch.float64), y.mean(0, dtype=torch.float64)
            self._add(*(rows - mean.to(rows) for rows, mean in zip((x, y), means, strict=True)))
            # The way from the old means to the new ones is one more pair of rows.
            self._add(*self._move_means(len(x), *means))

    def merge(self, other: PairMoments) -> None:
        """Take all rows that another one has taken; it stays as it is.

        Raises:
            ShapeError: The widths differ.
        """
        own, theirs = (self.x_width, self.y_width), (other.x_width, other.y_width)
        if own != theirs:
            raise ShapeError(f"moments of widths {theirs}: expected widths {own}")
        self.rejected += other.rejected
        if other.count:
            gaps = self._move_means(other.count, other._x_mean.to(self._xx), other._y_mean.to(self._xx))
            self._xx += other._xx.to(self._xx)
            self._yy += other._yy.to(self._yy)
            self._xy += other._xy.to(self._xy)
            self._add(*gaps)

    def centred(self) -> SecondMoments:
        """Return the moments around the means, as copies."""
        return SecondMoments(
            count=self.count,
            x_mean=self._x_mean.clone(),
            y_mean=self._y_mean.clone(),
            xx=mirrored(self._xx),
            yy=mirrored(self._yy),
            xy=self._xy.clone(),
        )

    def uncentred(self) -> SecondMoments:
        """Return the moments around zero, the plain sums of products."""
        found = self.centred()
        x, y = found.x_mean, found.y_mean
        return SecondMoments(
            count=self.count,
            x_mean=torch.zeros_like(x),
            y_mean=torch.zeros_like(y),
            xx=found.xx.addr_(x, x, alpha=self.count),
            yy=found.yy.addr_(y, y, alpha=self.count),
            xy=found.xy.addr_(x, y, alpha=self.count),
        )

    def swapped(self) -> PairMoments:
        """Return the same moments with the sides exchanged, as copies."""
        state = self.state()
        names = {"count": "count", "x_mean": "y_mean", "y_mean": "x_mean", "xx": "yy", "yy": "xx"}
        exchanged = {name: state[other] for name, other in names.items()}
        return PairMoments.from_state({**exchanged, "xy": state["xy"].T})

    def state(self) -> dict[str, torch.Tensor]:
        """Return everything there is to store, as contiguous tensors by name."""
        return {
            "count": torch.tensor([self.count, self.rejected]),
            "x_mean": self._x_mean.clone(),
            "y_mean": self._y_mean.clone(),
            "xx": mirrored(self._xx),
            "yy": mirrored(self._yy),
            "xy": self._xy.clone(memory_format=torch.contiguous_format),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, torch.Tensor]) -> PairMoments:
        """Return the moments that ``state`` described.

        Args:
            state: As ``state`` returned it.

        Raises:
            ShapeError: A tensor is missing or has another shape than the others want.
            NumericalError: A number is not finite.
        """
        x_width, y_width = (stored_width(state, name) for name in ("x_mean", "y_mean"))
        found = cls(x_width, y_width)
        wanted = {
            "count": (2,),
            "x_mean": (x_width,),
            "y_mean": (y_width,),
            "xx": (x_width, x_width),
            "yy": (y_width, y_width),
            "xy": (x_width, y_width),
        }
        parts = checked_state(state, wanted)
        found.count, found.rejected = (int(number) for number in parts["count"])
        found._x_mean, found._y_mean = parts["x_mean"], parts["y_mean"]
        found._xx, found._yy, found._xy = parts["xx"], parts["yy"], parts["xy"]
        return found

    def _move_means(self, count: int, x_mean: torch.Tensor, y_mean: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Let more rows into the means, and return the pair of rows by which the second moments grow for it."""
        total = self.count + count
        root = (self.count * count / total) ** 0.5
        x_gap, y_gap = x_mean - self._x_mean, y_mean - self._y_mean
        self._x_mean = self._x_mean + x_gap * (count / total)
        self._y_mean = self._y_mean + y_gap * (count / total)
        self.count = total
        return root * x_gap[None], root * y_gap[None]

    def _add(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Add the products of paired rows."""
        add_gram(self._xx, x)
        add_gram(self._yy, y)
        add_products(self._xy, x, y)


class Moments:
    """Plain second moments of rows and of what is wanted of them, in one pass: for a regression without bias.

    Attributes:
        count: How many rows were taken.
        rejected: How many rows were left out because a number in them was not finite.
        xd: Sum of x d^T, shape (d_x, d_d), float64.
        energy: Sum of the squares of all numbers of d.

    Args:
        width: Features of the rows, d_x.
        wanted_width: Features of what is wanted, d_d.
        device: Where the sums are kept; it must know float64.
    """

    __slots__ = ("_xx", "count", "energy", "rejected", "xd")

    def __init__(self, width: int, wanted_width: int, *, device: torch.device | str = "cpu") -> None:
        self.count = 0
        self.rejected = 0
        self.energy = 0.0
        self._xx = torch.zeros(width, width, dtype=torch.float64, device=device)
        self.xd = torch.zeros(width, wanted_width, dtype=torch.float64, device=device)

    @property
    def xx(self) -> torch.Tensor:
        """Sum of x x^T, shape (d_x, d_x), float64; a copy."""
        return mirrored(self._xx)

    def update(self, x: torch.Tensor, wanted: torch.Tensor) -> None:
        """Take a batch of rows; a row with a number that is not finite is left out and counted in ``rejected``.

        Args:
            x: Shape (n, d_x), any floating dtype and device.
            wanted: What a linear map of x shall give, shape (n, d_d), likewise.

        Raises:
            ShapeError: The shapes do not fit one another or the widths.
        """
        x, wanted, rejected = finite_pairs(
            x, wanted, widths=(self.xd.shape[0], self.xd.shape[1]), names=("x", "wanted"), device=self.xd.device
        )
        self.count += len(x)
        self.rejected += rejected
        if x.dtype is torch.float64:
            add_gram(self._xx, x)
            add_products(self.xd, x, wanted)
        elif len(x):
            self._add_around_means(x, wanted)
        self.energy += float(wanted.double().square().sum())

    def _add_around_means(self, x: torch.Tensor, wanted: torch.Tensor) -> None:
        """Add products of float32 rows around their means, and what the means make up in float64."""
        x_mean, mean = (rows.mean(0) for rows in (x, wanted))
        x_gap, gap = x - x_mean, wanted - mean
        add_gram(self._xx, x_gap)
        add_products(self.xd, x_gap, gap)
        # With rounding the rows around their mean do not quite sum to nothing.
        x_rest, rest = (rows.sum(0, dtype=torch.float64) for rows in (x_gap, gap))
        x_all, all_ = x_mean.double() * len(x) + x_rest, mean.double() * len(x) + rest
        self._xx.addr_(x_mean.double(), x_all).addr_(x_rest, x_mean.double())
        self.xd.addr_(x_mean.double(), all_).addr_(x_rest, mean.double())

    def merge(self, other: Moments) -> None:
        """Take all rows that another one has taken; it stays as it is.

        Raises:
            ShapeError: The widths differ.
        """
        if self.xd.shape != other.xd.shape:
            raise ShapeError(f"moments of widths {tuple(other.xd.shape)}: expected widths {tuple(self.xd.shape)}")
        self.count += other.count
        self.rejected += other.rejected
        self.energy += other.energy
        self._xx += other._xx.to(self._xx)
        self.xd += other.xd.to(self.xd)

    def state(self) -> dict[str, torch.Tensor]:
        """Return everything there is to store, as contiguous tensors by name."""
        return {
            "count": torch.tensor([self.count, self.rejected]),
            "energy": torch.tensor([self.energy], dtype=torch.float64),
            "xx": self.xx,
            "xd": self.xd.clone(),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, torch.Tensor]) -> Moments:
        """Return the moments that ``state`` described.

        Args:
            state: As ``state`` returned it.

        Raises:
            ShapeError: A tensor is missing or has another shape than the others want.
            NumericalError: A number is not finite.
        """
        width, wanted_width = (stored_width(state, name) for name in ("xx", "xd"))
        found = cls(width, wanted_width)
        parts = checked_state(state, {"count": (2,), "energy": (1,), "xx": (width, width), "xd": (width, wanted_width)})
        found.count, found.rejected = (int(number) for number in parts["count"])
        found.energy = float(parts["energy"])
        found._xx, found.xd = parts["xx"], parts["xd"]
        return found
