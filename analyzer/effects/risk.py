"""Standardised risks: what share would follow if every call had gone the one way, or the other."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from analyzer.effects.clusters import Codes, Floats, group_sums

#: A fitted logit beyond this says that some covariate tells outcomes apart without error: the estimate does not exist.
_LOGIT_LIMIT = 15.0


class NotEnoughError(Exception):
    """The data cannot carry the estimate; the text says why, in words for the reader."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """A model's rows: `labels` (n,) codes of all labels, `covariates` (n, p), `occurred` (n,) 0 or 1, clusters (n,)."""

    labels: Codes
    covariates: Floats
    occurred: Floats
    customer: Codes
    agent: Codes


@dataclass(frozen=True, slots=True, kw_only=True)
class Risks:
    """Two standardised risks (2,), each episode's influence on them (n, 2), and each agent's jackknifed influence (agents, 2)."""

    values: Floats
    influence: Floats
    jackknifed: Floats


def standardised_risks(design: Design, first: int, second: int) -> Risks:
    """Risks of the outcome had every episode carried label `first`, or `second`.

    Logistic regression of the outcome on the label (every label a category) and the covariates; each risk is the mean of the fitted
    probabilities over all episodes with the label set (g-computation; Robins 1986). Without covariates these are the plain shares.
    An episode's influence stacks both steps (M-estimation): its pull on the coefficients, carried through the delta method, plus what
    it contributes as a member of the standard population. Influences summed by cluster give the variance. The jackknifed influence
    of an agent is the step back to the estimate from the one without that agent's episodes, coefficients by one Newton step (the linearised
    jackknife of MacKinnon, Nielsen & Webb 2023; exact without covariates).

    Raises:
        NotEnoughError: collinear columns, separation, or no convergence.
    """
    matrix = _matrix(design.labels, design.labels, design.covariates)
    if np.linalg.matrix_rank(matrix) < matrix.shape[1]:
        raise NotEnoughError("the covariates determine each other or the label (collinear); adjust for fewer")
    coefficients = _fit(design.occurred, matrix)
    logits = matrix @ coefficients
    if np.abs(logits).max() > _LOGIT_LIMIT:
        raise NotEnoughError("the covariates tell the outcome apart without error (separation); adjust for fewer")
    fitted = _expit(logits)
    weighted = matrix * (fitted * (1 - fitted))[:, None]
    information, scores = weighted.T @ matrix, matrix * (design.occurred - fitted)[:, None]
    pull, steps = scores @ np.linalg.inv(information), _steps(matrix, weighted, scores, design.agent)
    sizes = np.bincount(design.agent)[np.unique(design.agent)]
    values, influence, jackknifed = [], [], []
    for label in (first, second):
        counterfactual = _matrix(np.full_like(design.labels, label), design.labels, design.covariates)
        each = _expit(counterfactual @ coefficients)
        gradient = (counterfactual * (each * (1 - each))[:, None]).mean(axis=0)
        apart = each - each.mean()
        values.append(each.mean())
        influence.append(apart / len(each) + pull @ gradient)
        jackknifed.append(group_sums(apart[:, None], design.agent)[:, 0] / (len(each) - sizes) + steps @ gradient)
    return Risks(values=np.array(values), influence=np.stack(influence, axis=1), jackknifed=np.stack(jackknifed, axis=1))


def _steps(matrix: Floats, weighted: Floats, scores: Floats, agent: Codes) -> Floats:
    """For each agent the Newton step (agents, k) of the coefficients that leaving the agent out undoes."""
    sums, steps = group_sums(scores, agent), []
    information = weighted.T @ matrix
    order = np.argsort(agent, kind="stable")
    bounds = np.flatnonzero(np.diff(agent[order])) + 1
    for total, rows in zip(sums, np.split(order, bounds), strict=True):
        without = information - weighted[rows].T @ matrix[rows]
        # An agent may be alone with some covariate: without them it has no coefficient, and the pseudo-inverse gives it none.
        steps.append(np.linalg.pinv(without, rcond=1e-10, hermitian=True) @ total)
    return np.stack(steps)


def _matrix(labels: Codes, observed: Codes, covariates: Floats) -> Floats:
    """Intercept, a column per observed label but the first, covariates."""
    columns = [np.ones(len(labels)), *((labels == label).astype(float) for label in np.unique(observed)[1:])]
    return np.column_stack([*columns, covariates])


def _expit(values: Floats) -> Floats:
    out: Floats = 1.0 / (1.0 + np.exp(-values))
    return out


def _fit(occurred: Floats, matrix: Floats) -> Floats:
    from statsmodels.genmod.families import Binomial
    from statsmodels.genmod.generalized_linear_model import GLM
    from statsmodels.tools.sm_exceptions import PerfectSeparationError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # separation is told from the fit itself, by the caller
        try:
            result = GLM(occurred, matrix, family=Binomial()).fit(maxiter=100, tol=1e-10)
        except (PerfectSeparationError, np.linalg.LinAlgError, ValueError, FloatingPointError):
            raise NotEnoughError("the model cannot be fitted (separation); adjust for fewer") from None
    coefficients: Floats = np.asarray(result.params, dtype=float)
    if not result.converged or not np.isfinite(coefficients).all():
        raise NotEnoughError("the model does not settle on an answer (separation); adjust for fewer")
    return coefficients
