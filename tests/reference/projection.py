"""Projection in slow, obvious float64: the product is formed and decomposed as a dense matrix."""

from __future__ import annotations

import math

import numpy as np
import torch


def delta(lora_a: torch.Tensor, lora_b: torch.Tensor) -> np.ndarray:
    """Return ``lora_B @ lora_A`` as a sum of outer products, shape (out_features, in_features), float64."""
    left, right = lora_b.double().numpy(), lora_a.double().numpy()
    found = np.zeros((left.shape[0], right.shape[1]))
    for index in range(left.shape[1]):
        found += np.outer(left[:, index], right[index])
    return found


def inner(first: np.ndarray, second: np.ndarray) -> float:
    """Return the sum of the products of all numbers."""
    return math.fsum((first * second).ravel())


def norm(matrix: np.ndarray) -> float:
    """Return the root of the sum of all squares."""
    return math.sqrt(inner(matrix, matrix))


def truncate(matrix: np.ndarray, in_features: int, out_features: int) -> np.ndarray:
    """Cut or zero-pad rows and columns."""
    found = np.zeros((out_features, in_features))
    rows, columns = min(out_features, matrix.shape[0]), min(in_features, matrix.shape[1])
    found[:rows, :columns] = matrix[:rows, :columns]
    return found


def svd(matrix: np.ndarray, rank: int, in_features: int, out_features: int) -> np.ndarray:
    """Do as ual-adapter 0.1: dense SVD, singular vectors cut or padded one by one, values scaled for the width."""
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    source, target = math.sqrt(matrix.shape[0] * matrix.shape[1]), math.sqrt(in_features * out_features)
    scaled = values * math.sqrt(source / target)
    found = np.zeros((out_features, in_features))
    for index in range(min(rank, len(values))):
        column, row = np.zeros(out_features), np.zeros(in_features)
        column[: len(left)] = left[:out_features, index]
        row[: right.shape[1]] = right[index, :in_features]
        found += scaled[index] * np.outer(column, row)
    return found


def resample(vector: np.ndarray, width: int) -> np.ndarray:
    """Sample a vector anew, linearly, with half-pixel centres and constant ends."""
    found = np.zeros(width)
    for index in range(width):
        place = min(max((index + 0.5) * len(vector) / width - 0.5, 0.0), len(vector) - 1.0)
        below = math.floor(place)
        above = min(below + 1, len(vector) - 1)
        found[index] = vector[below] + (place - below) * (vector[above] - vector[below])
    return found


def resample_axes(matrix: np.ndarray, in_features: int, out_features: int) -> np.ndarray:
    """Resample the rows, then the columns; ual-adapter 0.1 does the same to the two factors."""
    wide = np.array([resample(row, in_features) for row in matrix])
    return np.array([resample(column, out_features) for column in wide.T]).T


def interpolate(matrix: np.ndarray, in_features: int, out_features: int) -> np.ndarray:
    """Resample both axes and give the result the norm of the source."""
    raw = resample_axes(matrix, in_features, out_features)
    return raw * norm(matrix) / norm(raw) if norm(raw) > 0 else raw


def effective_rank(values: np.ndarray) -> float:
    """Return the exponential of the entropy of singular values."""
    shares = [float(value) / math.fsum(values) for value in values if value > 0]
    return math.exp(-math.fsum(share * math.log(share) for share in shares)) if shares else 0.0


LIFTS = {"svd": truncate, "truncate": truncate, "interpolate": interpolate}


def fit(method: str, matrix: np.ndarray, rank: int, in_features: int, out_features: int) -> np.ndarray:
    """Fit a matrix by a method's name."""
    if method == "svd":
        return svd(matrix, rank, in_features, out_features)
    return {"truncate": truncate, "interpolate": interpolate}[method](matrix, in_features, out_features)


def energy_kept(method: str, matrix: np.ndarray, fitted: np.ndarray) -> float:
    """Return the squared cosine between a matrix and what comes back from its fitted form."""
    back = LIFTS[method](fitted, matrix.shape[1], matrix.shape[0])
    product = norm(matrix) * norm(back)
    return (inner(matrix, back) / product) ** 2 if product > 0 else 0.0
