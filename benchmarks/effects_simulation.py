"""Measures the risk difference on made-up calls whose truth is known: bias, coverage, false positives, standard errors.

    python benchmarks/effects_simulation.py --runs 500 --jobs 2

Each run draws customers and agents with effects of their own on both mood and outcome (crossed, never on the same people twice in the same
way), goes through `link` and `estimate` like any user, and is compared with the truth of its design. Run r of design d uses seed 10000 d + r.
Beside the estimate stand two others on the same data: naive (independent calls) and clustered by customer alone.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from analyzer.effects import Effect, estimate
from analyzer.effects.clusters import one_way
from analyzer.effects.episodes import gather
from analyzer.effects.risk import Design, standardised_risks
from analyzer.outcomes import LinkedCall, Outcomes, link
from analyzer.records import LABELS, CallInfo, CallScore, Judgement, Talk

START = datetime(2025, 1, 1, tzinfo=UTC)
WINDOW_DAYS = 90
EVEN = {name: {label: 1 / len(labels) for label in labels} for name, labels in LABELS.items()}
SURE = {label: {other: float(other == label) for other in LABELS["closing"]} for label in LABELS["closing"]}


@dataclass(frozen=True, kw_only=True)
class Made:
    """One made-up centre. Effects are on the logit of the outcome; `spread` ones are standard deviations between agents or customers."""

    name: str
    agents: int
    effect: float = 0.0
    customers: int = 300
    calls_each: int = 4
    base: float = -1.5
    agent_spread: float = 0.5
    customer_spread: float = 0.8
    agent_mood_spread: float = 0.7
    customer_mood_spread: float = 0.7
    constant_mood: bool = False
    confounder: float = 0.0
    days_apart: int = 100
    short: bool = False


DESIGNS = (
    Made(name="12 agents, null", agents=12),
    Made(name="12 agents, effect", agents=12, effect=0.8),
    Made(name="25 agents, null", agents=25),
    Made(name="60 agents, effect", agents=60, effect=0.8),
    Made(name="12 agents who set the mood, null", agents=12, agent_mood_spread=2.0),
    Made(name="queue confounds, adjusted", agents=25, effect=0.8, confounder=1.2),
    Made(name="windows overlap (20 of 90 days), null", agents=25, days_apart=20),
    Made(name="about 15 events per arm, null", agents=25, base=-3.5),
    Made(name="mood constant within customer, null", agents=25, constant_mood=True),
    Made(name="staggered entry, short follow-up, null", agents=25, short=True),
    Made(name="8 agents, null", agents=8),
)


def draw(made: Made, rng: np.random.Generator) -> tuple[list[CallScore], Outcomes]:
    """A centre's scored calls and its customers' later events (kind `reorder`)."""
    import pandas as pd

    n = made.customers * made.calls_each
    customer = np.repeat(np.arange(made.customers), made.calls_each)
    agent = rng.integers(made.agents, size=n)
    queue = rng.integers(2, size=n)
    noise = np.repeat(rng.logistic(size=made.customers), made.calls_each) if made.constant_mood else rng.logistic(size=n)
    pull = 0.0 if made.constant_mood else rng.normal(0, made.agent_mood_spread, made.agents)[agent]
    latent = pull + rng.normal(0, made.customer_mood_spread, made.customers)[customer] + made.confounder * (queue - 0.5) + noise
    mood = np.digitize(latent, [-0.6, 0.9])
    entry = rng.uniform(0, 300 if made.short else 60, made.customers)
    day = entry[customer] + np.tile(np.arange(made.calls_each), made.customers) * made.days_apart
    level = rng.normal(0, made.agent_spread, made.agents)[agent] + rng.normal(0, made.customer_spread, made.customers)[customer]
    if made.days_apart < WINDOW_DAYS:  # events of the customer's own, at times of their own: every window has the same chance of one
        rate = np.exp(-1.6 + rng.normal(0, made.customer_spread, made.customers))
        last = 60 + made.calls_each * made.days_apart + WINDOW_DAYS
        counts = rng.poisson(rate * last / WINDOW_DAYS)
        who, when = np.repeat(np.arange(made.customers), counts), rng.uniform(0, last, counts.sum())
    else:
        logit = made.base + level + made.effect * np.array([1.0, 0.5, 0.0])[mood] - made.confounder * (queue - 0.5)
        hit = rng.random(n) < 1 / (1 + np.exp(-logit))
        who, when = customer[hit], (day + rng.uniform(0.1, WINDOW_DAYS - 1, n))[hit]
    ends = np.full(made.customers, START + timedelta(days=2000), dtype=object)
    if made.short:  # everybody observed until day 500, whenever they came; later events are not in the table
        ends[:] = START + timedelta(days=500)
        who, when = who[when < 500], when[when < 500]
    names = np.array([f"k{number}" for number in range(made.customers)], dtype=object)
    times = pd.to_datetime([START + timedelta(days=float(value)) for value in when], utc=True).as_unit("us")
    events = pd.DataFrame({"customer_id": names[who], "kind": "reorder", "occurred_at": times, "amount": np.nan})
    until = pd.to_datetime(list(ends), utc=True).as_unit("us")
    follow_up = pd.DataFrame({"customer_id": names, "kind": "reorder", "observed_until": until, "observed_from": pd.NaT})
    follow_up["observed_from"] = pd.to_datetime(follow_up["observed_from"], utc=True)
    calls = [
        _score(f"c{i}", f"k{customer[i]}", f"a{agent[i]}", START + timedelta(days=float(day[i])), f"q{queue[i]}", LABELS["closing"][mood[i]])
        for i in range(n)
    ]
    return calls, Outcomes(source="made up", events=events, follow_up=follow_up, rows=len(events), duplicates=0)


def _score(*cells: object) -> CallScore:
    call_id, customer, agent, at, queue, closing = cells
    even = {name: Judgement(dimension=name, probabilities=EVEN[name], abstained=True) for name in ("courtesy", "resolution")}
    mood = Judgement(dimension="closing", probabilities=SURE[str(closing)])
    info = CallInfo(call_id=str(call_id), customer_id=str(customer), agent_id=str(agent), started_at=at, queue=str(queue))  # type: ignore[arg-type]
    return CallScore(info=info, asr="none", model="none", closing=mood, opening=mood, talk=Talk(duration_s=300.0), **even)


def truth(made: Made) -> float:
    """The risk difference over all customers, agents and queues of the design, by integration."""
    if not made.effect:
        return 0.0
    points, weights = np.polynomial.hermite_e.hermegauss(80)
    spread = math.hypot(made.agent_spread, made.customer_spread)
    risks = []
    for shift in (made.effect, 0.0):
        by_queue = [
            (weights / (1 + np.exp(-(made.base + shift + spread * points - made.confounder * (queue - 0.5))))).sum() / weights.sum()
            for queue in (0, 1)
        ]
        risks.append(np.mean(by_queue))
    return float(risks[0] - risks[1])


def one(task: tuple[int, int]) -> tuple[float, ...] | None:
    """Estimate, se, low, high, p; naive low, high; customer-only low, high. `None` where the answer was "not enough data"."""
    from scipy.stats import t

    number, run = task
    made = DESIGNS[number]
    calls, outcomes = draw(made, np.random.default_rng(10_000 * number + run))
    linked = link(calls, outcomes, window_days=WINDOW_DAYS)
    adjust = ("queue",) if made.confounder else ()
    effect = estimate(linked, adjust=adjust, dimensions=("closing",))[0]
    if effect.estimate is None:
        return None
    reach = _customer_only(linked.calls, adjust) * float(t.ppf(0.975, made.customers - 1))
    return (*_numbers(effect), effect.estimate - reach, effect.estimate + reach)


def _numbers(effect: Effect) -> tuple[float, ...]:
    values = (effect.estimate, effect.se, effect.low, effect.high, effect.p_value, effect.naive.low, effect.naive.high)
    return tuple(math.nan if value is None else value for value in values)


def _customer_only(calls: tuple[LinkedCall, ...], adjust: tuple[str, ...]) -> float:
    rows = gather(calls, "closing", "reorder", adjust)
    design = Design(labels=rows.labels, covariates=rows.covariates, occurred=rows.occurred, customer=rows.customer, agent=rows.agent)
    pull = standardised_risks(design, 0, 2).influence @ np.array([1.0, -1.0])
    return math.sqrt(one_way(pull[:, None], rows.customer)[0, 0])


def main() -> None:
    """Run and print the table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=500)
    options.add_argument("--jobs", type=int, default=2)
    options.add_argument("--designs", type=int, nargs="*", default=range(len(DESIGNS)))
    chosen = options.parse_args()
    print(
        f"{chosen.runs} runs per design, seeds 10000 d to 10000 d + {chosen.runs - 1}; Monte Carlo error of a 95 % coverage: "
        f"+-{196 * math.sqrt(0.95 * 0.05 / chosen.runs):.1f} points"
    )
    heads = ("d", "design", "answered", "truth", "bias", "true SD", "SE / SD", "coverage %", "rejects %", "naive covers %", "naive rejects %")
    print("|".join(("", *heads, "customer-only covers %", "")))
    print("|---" * (len(heads) + 1) + "|")
    with ProcessPoolExecutor(chosen.jobs) as pool:
        for number in chosen.designs:
            made, real = DESIGNS[number], truth(DESIGNS[number])
            found = [row for row in pool.map(one, [(number, run) for run in range(chosen.runs)], chunksize=10) if row is not None]
            if len(found) < 2:
                print(f"| {number} | {made.name} | {len(found)} | {real:.4f} |", flush=True)
                continue
            point, se, low, high, p_value, naive_low, naive_high, customer_low, customer_high = np.array(found).T
            covered, naive, customer = (
                100 * np.mean((a <= real) & (real <= b)) for a, b in ((low, high), (naive_low, naive_high), (customer_low, customer_high))
            )
            rejects, naive_rejects = 100 * np.mean(p_value < 0.05), 100 * np.mean((naive_low > 0) | (naive_high < 0))
            cells = f"{real:.4f} | {point.mean() - real:+.4f} | {point.std(ddof=1):.4f} | {se.mean() / point.std(ddof=1):.2f}"
            shares = " | ".join(f"{value:.1f}" for value in (covered, rejects, naive, naive_rejects, customer))
            print(f"| {number} | {made.name} | {len(found)} | {cells} | {shares} |", flush=True)


if __name__ == "__main__":
    main()
