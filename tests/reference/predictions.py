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
