"""What corrected concepts say of others, for one image, in numpy and scipy."""

import numpy as np
from scipy.optimize import minimize
from scipy.stats import chi2


def condition(mean, covariance, value, known):
    """Mean and covariance of the others given the known logits, by the textbook's blocks; the known ones included."""
    s, rest = np.flatnonzero(known), np.flatnonzero(~known)
    gain = covariance[np.ix_(rest, s)] @ np.linalg.inv(covariance[np.ix_(s, s)])
    moved, left = value.copy(), np.zeros_like(mean)
    moved[rest] = mean[rest] + gain @ (value[s] - mean[s])
    left[rest] = np.diag(covariance[np.ix_(rest, rest)] - gain @ covariance[np.ix_(s, rest)])
    return moved, left


def posterior_mode(mean, covariance, truth, known):
    """The most probable logits of all concepts given the truth of the known ones, by a general optimizer."""
    precision = np.linalg.inv(covariance)

    def loss(x):
        likely = np.logaddexp(0, x[known]) - truth[known] * x[known]
        return likely.sum() + (x - mean) @ precision @ (x - mean) / 2

    return minimize(loss, mean, method="BFGS", options={"gtol": 1e-9, "maxiter": 5000}).x


def confidence_bound(mean, covariance, truth, level):
    """The published constrained problem, by sequential least squares, for concepts that are all known."""
    side, precision = 2 * truth - 1, np.linalg.inv(covariance)
    radius = chi2.ppf(level, len(mean))
    start = mean + side * np.sqrt(radius / (side @ precision @ side))
    found = minimize(
        lambda x: np.logaddexp(0, -side * x).sum(),
        start,
        jac=lambda x: -side / (1 + np.exp(side * x)),
        method="SLSQP",
        constraints=[
            {"type": "ineq", "fun": lambda x: radius - (x - mean) @ precision @ (x - mean)},
            {"type": "ineq", "fun": lambda x: side * (x - mean)},
        ],
        options={"maxiter": 1000, "ftol": 1e-13},
    )
    return found.x
