"""Fits to predictions in slow, obvious float64: row by row, by gradient descent and by stacked least squares."""

from __future__ import annotations

import numpy as np


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities of one row."""
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def divergence(wanted: np.ndarray, logits: np.ndarray) -> float:
    """Return KL(wanted || softmax(logits)) of one row, in nats."""
    given = softmax(logits)
    return float(sum(q * (np.log(q) - np.log(p)) for q, p in zip(wanted, given, strict=True) if q > 0))


def contrast(own: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return own probabilities times after over before, made to sum to 1; one row of logarithms each."""
    weights = np.exp(own) * np.exp(after) / np.exp(before)
    return np.asarray(weights / weights.sum())


def state_change(logits: np.ndarray, wanted: np.ndarray, directions: np.ndarray, penalty: float) -> np.ndarray:
    """Return ``argmin KL(q || softmax(z + V x)) + penalty/2 |x|^2`` of one row, by descent in x itself.

    The objective's curvature is at most |V|^2 / 2 + penalty, which gives a step that never overshoots.
    """
    x = np.zeros(directions.shape[1])
    step = 1 / (np.linalg.norm(directions, 2) ** 2 / 2 + penalty)
    for _ in range(200_000):
        slope = directions.T @ (softmax(logits + directions @ x) - wanted) + penalty * x
        if np.abs(slope).max() < 1e-12:
            break
        x = x - step * slope
    return x


def joint_ridge(features: list[np.ndarray], wanted: np.ndarray, penalty: float) -> list[np.ndarray]:
    """Return the matrices W_i of a ridge over the rows of several modules, as one least-squares problem.

    The rows of a module are divided by their root mean square length times the root of the number of modules; the
    penalty is a row of its own for every scaled feature, put below.
    """
    roots = [np.sqrt((x**2).sum(axis=1).mean() * len(features)) for x in features]
    stacked = np.hstack([x / root for x, root in zip(features, roots, strict=True)])
    width = stacked.shape[1]
    rows = np.vstack((stacked, np.sqrt(penalty) * np.eye(width)))
    goal = np.vstack((wanted, np.zeros((width, wanted.shape[1]))))
    solution = np.linalg.lstsq(rows, goal, rcond=None)[0]
    ends = np.cumsum([x.shape[1] for x in features])[:-1]
    return [part / root for part, root in zip(np.split(solution, ends), roots, strict=True)]


def cut(features: np.ndarray, matrix: np.ndarray, rank: int) -> np.ndarray:
    """Return the matrix of a rank whose effect on rows is closest to a matrix's, by an SVD of the effect."""
    right = np.linalg.svd(features @ matrix)[2][:rank]
    return np.asarray(matrix @ right.T @ right)


def token_groups(source: list[bytes], target: list[bytes]) -> tuple[list[bytes | None], list[bytes | None]]:
    """Return the group of every token, named by its source token; ``None`` where it has none."""

    def longest_start(text: bytes, known: list[bytes]) -> bytes | None:
        return max((own for own in known if text.startswith(own)), key=len, default=None)

    of_target = [longest_start(text, source) for text in target]
    taken = {group for group in of_target if group is not None}
    of_source: list[bytes | None] = []
    for text in source:
        begun = longest_start(text, [own for own, group in zip(target, of_target, strict=True) if group is not None])
        of_source.append(text if text in taken else None if begun is None else of_target[target.index(begun)])
    return of_source, of_target


def wanted(
    own: np.ndarray, before: np.ndarray, after: np.ndarray, groups: tuple[list[int], list[int]], weight: float
) -> np.ndarray:
    """Return the wanted probabilities of the target's tokens in one row, from whole distributions of both models.

    Every group gets ``own^(1 - weight) * before^(weight - 1) * after`` of probability but for a common factor, and each
    of its tokens the share that it has in the target.
    """
    found = np.zeros_like(own)
    for token, group in enumerate(groups[1]):
        masses = [
            sum(value for value, of in zip(chances, side, strict=True) if of == group)
            for chances, side in ((own, groups[1]), (before, groups[0]), (after, groups[0]))
        ]
        change = masses[2] / masses[0] ** weight / masses[1] ** (1 - weight)
        found[token] = own[token] * change
    return np.asarray(found / found.sum())
