"""Uncertainty of calls that share customers and agents: two-way cluster-robust covariance from influence values."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]


def two_way(influence: Floats, customer: Codes, agent: Codes) -> Floats:
    """Covariance (k, k) of k estimates from each episode's influence on them (n, k), clustered by customer and by agent.

    Cameron, Gelbach & Miller (2011): the sum of the two one-way covariances less the one of their intersection, each with the factor
    G / (G - 1). Where the result is not positive semi-definite its negative eigenvalues are set to zero, as they propose.
    """
    return repaired(one_way(influence, customer) + one_way(influence, agent) - one_way(influence, intersection(customer, agent)))


def one_way(influence: Floats, group: Codes) -> Floats:
    """Covariance (k, k) clustered by one grouping, with the factor G / (G - 1)."""
    sums = group_sums(influence, group)
    count = len(sums)
    out: Floats = sums.T @ sums * (count / (count - 1)) if count > 1 else np.full((influence.shape[1],) * 2, np.nan)
    return out


def group_sums(values: Floats, group: Codes) -> Floats:
    """Sums (groups, k) of `values` (n, k) over the groups present."""
    present, codes = np.unique(group, return_inverse=True)
    codes = codes.reshape(-1)
    return np.stack([np.bincount(codes, weights=column, minlength=len(present)) for column in values.T], axis=1)


def repaired(covariance: Floats) -> Floats:
    """The covariance with negative eigenvalues set to zero."""
    roots, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    out: Floats = covariance if roots.min() >= 0 else (vectors * np.maximum(roots, 0.0)) @ vectors.T
    return out


def variance(influence: Floats, jackknifed: Floats, customer: Codes, agent: Codes) -> float:
    """Variance of one estimate, clustered by customer and by agent: the sum of both less that of their intersection.

    From each episode's influence (n,) and each agent's jackknifed one (agents,), which is the step the estimate takes when that agent is left
    out. Agents are few and some have most of one label: for them the sandwich comes out too small and the jackknife does not (CV3;
    MacKinnon, Nielsen & Webb 2023). Where the difference comes out as nothing or less, the larger of the two. Taking the larger always was tried
    and is too wide (97 % coverage with 12 agents); what this gives is in benchmarks/effects_simulation.py.
    """
    column, count = influence.reshape(-1, 1), len(jackknifed)
    by_customer = float(one_way(column, customer)[0, 0])
    by_agent = float((jackknifed**2).sum() * (count - 1) / count)
    both = by_customer + by_agent - float(one_way(column, intersection(customer, agent))[0, 0])
    return both if both > 0 else max(by_customer, by_agent)


def intersection(first: Codes, second: Codes) -> Codes:
    """A code per pair of codes that occurs."""
    codes: Codes = np.unique(first * (int(second.max()) + 1) + second, return_inverse=True)[1].reshape(-1).astype(np.int64)
    return codes
