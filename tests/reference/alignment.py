"""Alignment of two models in slow, obvious float64: on explicit rows, by dense decompositions, never by sums."""

from __future__ import annotations

import itertools
import math

import numpy as np


def centre(rows: np.ndarray) -> np.ndarray:
    """Take the mean of every column out."""
    return rows - rows.mean(axis=0)


def ridge(
    origin: np.ndarray, goal: np.ndarray, penalty: float, *, centred: bool = True, per_feature: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return matrix and bias of the ridge map, as the least-squares solution on rows with the penalty's rows below.

    The penalty is over the mean of the sums of squares of the features.
    """
    x, y = (centre(origin), centre(goal)) if centred else (origin, goal)
    squares = (x**2).sum(axis=0)
    weights = np.maximum(squares, squares.mean() * 1e-6) if per_feature else np.full(len(squares), squares.mean())
    below = np.diag(np.sqrt(penalty * weights))
    stacked = np.vstack((x, below)), np.vstack((y, np.zeros((x.shape[1], y.shape[1]))))
    matrix = np.linalg.lstsq(*stacked, rcond=None)[0].T
    bias = goal.mean(axis=0) - matrix @ origin.mean(axis=0) if centred else np.zeros(len(matrix))
    return matrix, bias


def r2(origin: np.ndarray, goal: np.ndarray, matrix: np.ndarray, bias: np.ndarray, directions: np.ndarray) -> float:
    """Return the share of the variance along directions that a map predicts, row by row."""
    wrong = (goal - (origin @ matrix.T + bias)) @ directions.T
    spread = centre(goal) @ directions.T
    return 1 - float((wrong**2).sum() / (spread**2).sum())


def symmetric_power(matrix: np.ndarray, exponent: float) -> np.ndarray:
    """Return the power of a positive definite matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return vectors @ np.diag(values**exponent) @ vectors.T


def procrustes(
    origin: np.ndarray,
    goal: np.ndarray,
    *,
    whitening: float = 0.0,
    centred: bool = True,
    scaled: bool = False,
    penalty: float = 1e-2,
) -> np.ndarray:
    """Return the turn of one set of rows onto the other, both whitened first and the map taken back.

    Directions below a thousand float32 eps of the largest are turned in part.
    """
    x, y = (centre(origin), centre(goal)) if centred else (origin, goal)
    grams = [rows.T @ rows for rows in (x, y)]
    grams = [gram + penalty * np.diag(gram).mean() * np.eye(len(gram)) for gram in grams]
    x_white, y_white = (rows @ symmetric_power(gram, -whitening) for rows, gram in zip((x, y), grams, strict=True))
    left, values, right = np.linalg.svd(y_white.T @ x_white, full_matrices=False)
    least = 1e3 * 2.0**-23 * values[0]
    turn = sum(min(value / least, 1.0) * np.outer(left[:, i], right[i]) for i, value in enumerate(values))
    if scaled:
        turn = turn * ((x_white @ turn.T) * y_white).sum() / ((x_white @ turn.T) ** 2).sum()
    return symmetric_power(grams[1], whitening) @ turn @ symmetric_power(grams[0], -whitening)


def cka(x: np.ndarray, y: np.ndarray) -> float:
    """Return the alignment of two n x n kernels, each centred by the matrix that takes means out."""
    count = len(x)
    out = np.eye(count) - np.ones((count, count)) / count
    one, other = (out @ rows @ rows.T @ out for rows in (x, y))
    return float((one * other).sum() / (np.linalg.norm(one) * np.linalg.norm(other)))


def reduced_rank_ridge(rows: np.ndarray, wanted: np.ndarray, penalty: float, rank: int) -> np.ndarray:
    """Return the (out, in) matrix of a rank that minimises ``|X W^T - D|^2 + lambda |W|^2``.

    With the penalty's rows below, the problem is plain reduced-rank regression: what is fitted without a bound on the
    rank is brought to its leading right singular vectors.
    """
    weight = penalty * (rows**2).sum(axis=0).mean()
    x = np.vstack((rows, np.sqrt(weight) * np.eye(rows.shape[1])))
    d = np.vstack((wanted, np.zeros((rows.shape[1], wanted.shape[1]))))
    solution = np.linalg.lstsq(x, d, rcond=None)[0]
    leading = np.linalg.svd(x @ solution, full_matrices=False)[2][:rank]
    return (solution @ leading.T @ leading).T


def objective(rows: np.ndarray, wanted: np.ndarray, penalty: float, matrix: np.ndarray) -> float:
    """Return what ``reduced_rank_ridge`` minimises."""
    weight = penalty * (rows**2).sum(axis=0).mean()
    return float(((rows @ matrix.T - wanted) ** 2).sum() + weight * (matrix**2).sum())


def through_subspaces(
    delta: np.ndarray, source: np.ndarray, target: np.ndarray, k: int, signs: tuple[int, ...] | None = None
) -> np.ndarray:
    """Take an update from the singular pairs of one weight to those of another, one pair of pairs at a time."""
    (u_s, v_s), (u_t, v_t) = (singular_pairs(weight) for weight in (source, target))
    count = min(k, u_s.shape[1], u_t.shape[1])
    flips = signs or (1,) * count
    found = np.zeros(target.shape)
    for i, j in itertools.product(range(count), repeat=2):
        core = u_s[:, i] @ delta @ v_s[:, j]
        found += flips[i] * flips[j] * core * np.outer(u_t[:, i], v_t[:, j])
    return found


def singular_pairs(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return left and right singular vectors as columns, the largest entry of each right one positive."""
    left, _, right = np.linalg.svd(weight, full_matrices=False)
    for index, row in enumerate(right):
        if row[np.argmax(np.abs(row))] < 0:
            left[:, index] *= -1
            right[index] *= -1
    return left, right.T


def sign_variance(delta: np.ndarray, source: np.ndarray, target: np.ndarray, k: int) -> float:
    """Return the mean of ``|other - found|^2 / |found|^2`` over every choice of signs."""
    found = through_subspaces(delta, source, target, k)
    count = min(k, *source.shape, *target.shape)
    apart = [
        ((through_subspaces(delta, source, target, k, signs) - found) ** 2).sum()
        for signs in itertools.product((1, -1), repeat=count)
    ]
    return float(np.mean(apart) / (found**2).sum())


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    """Return the cosine of two matrices as long vectors."""
    left, right = one.ravel(), other.ravel()
    size = math.sqrt(math.fsum(left * left) * math.fsum(right * right))
    return math.fsum(left * right) / size
