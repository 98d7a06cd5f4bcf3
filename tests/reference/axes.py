"""What is measured on axes, as the definitions say it: pair by pair and image by image, in float64."""

import math

import numpy as np

from tests.reference.concepts import auroc


def auc_matrix(scores, concepts):
    """AUC (K, U) of each axis for each concept."""
    scores, concepts = np.asarray(scores, dtype=float), np.asarray(concepts, dtype=float)
    return [[auroc(axis, concept) for axis in scores.T] for concept in concepts.T]


def covariance(maps):
    """Covariance (D, D) of (B, D, h, w) maps over all positions of all images, divided by their number."""
    columns = [image[:, i, j] for image in np.asarray(maps, dtype=float) for i in range(image.shape[1])
               for j in range(image.shape[2])]  # fmt: skip
    mean = sum(columns) / len(columns)
    return sum(np.outer(x - mean, x - mean) for x in columns) / len(columns)


def mean_absolute_correlation(covariance):
    """Mean over pairs of different axes that vary."""
    found = [
        abs(covariance[i, j]) / math.sqrt(covariance[i, i] * covariance[j, j])
        for i in range(len(covariance))
        for j in range(len(covariance))
        if i != j and covariance[i, i] > 0 and covariance[j, j] > 0
    ]
    return sum(found) / len(found) if found else math.nan


def separation(representations, concepts):
    """D_ij = |mean cos(i, j)| / sqrt(|mean cos(i, i)| |mean cos(j, j)|), never of an image with itself."""
    x, c = np.asarray(representations, dtype=float), np.asarray(concepts, dtype=float)
    holds = [[n for n in range(len(x)) if c[n, k] > 0.5 and np.any(x[n] != 0)] for k in range(c.shape[1])]

    def mean_cosine(i, j):
        found = [
            x[a] @ x[b] / math.sqrt(x[a] @ x[a]) / math.sqrt(x[b] @ x[b]) for a in holds[i] for b in holds[j] if a != b
        ]
        return sum(found) / len(found) if found else math.nan

    count = range(c.shape[1])
    within = [abs(mean_cosine(k, k)) for k in count]
    return [[abs(mean_cosine(i, j)) / math.sqrt(within[i] * within[j]) for j in count] for i in count]


def importance(logits, without, label):
    """Accuracy lost and cross-entropy gained without each concept's axis."""

    def loss(row, c):
        return math.log(sum(math.exp(x - max(row)) for x in row)) + max(row) - row[c]

    def accuracy(rows):
        return sum(float(np.argmax(row) == c) for row, c in zip(rows, label, strict=True)) / len(label)

    def mean_loss(rows):
        return sum(loss(row, c) for row, c in zip(rows, label, strict=True)) / len(label)

    logits, without = np.asarray(logits, dtype=float), np.asarray(without, dtype=float)
    count = range(without.shape[1])
    drop = [accuracy(logits) - accuracy(without[:, k]) for k in count]
    return drop, [mean_loss(without[:, k]) - mean_loss(logits) for k in count]
