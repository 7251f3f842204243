"""Invents the sample's tables: who called when, what customers did later, and the earlier calls in history.jsonl.

All of it is made up, by the model that `Moods` and `live` write down, from a fixed seed: customers live day by day, every call
changes how likely they are to order, spend, call again or leave, until their next call. Standard library alone.
Run: python recordings_sample/make/tables.py
"""

from __future__ import annotations

import csv
import json
import math
import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SAMPLE = HERE.parent
SEED = 20260701
OBSERVED_FROM = datetime(2025, 12, 1, tzinfo=UTC)
CALLS_FROM = datetime(2026, 1, 1, tzinfo=UTC)
HISTORY_UNTIL = datetime(2026, 5, 26, tzinfo=UTC)
OBSERVED_UNTIL = datetime(2026, 7, 1, tzinfo=UTC)
FOLLOWED, OTHERS = 60, 30
KINDS = ("churn", "reorder", "repeat_call", "spend")
TEAMS = ("north", "south", "west")
TRAINED = {"a03": datetime(2026, 3, 9, 8, tzinfo=UTC), "a06": datetime(2026, 3, 16, 8, tzinfo=UTC), "a10": datetime(2026, 4, 1, 8, tzinfo=UTC)}
#: Events in 30 days at the rate a call of plain mood leaves behind; churn is looked at apart, it ends everything.
RATE_30 = {"reorder": 0.36, "spend": 0.32, "churn": 0.03}
#: What multiplies those rates, by the truth about the last call.
EFFECT = {
    "reorder": {"singing": 2.6, "grumbling": 0.3, "resolved": 1.2, "unresolved": 0.8, "courteous": 1.15, "discourteous": 0.85},
    "spend": {"singing": 1.4, "grumbling": 0.8},
    "churn": {"singing": 0.3, "grumbling": 4.5, "resolved": 0.7, "unresolved": 1.5, "discourteous": 1.3},
}
QUEUE_EFFECT = {"orders": 1.2, "technical": 0.85, "billing": 0.9, "bookings": 1.1, "general": 1.0}
#: The chance that a call is followed by another about the same within two weeks.
REPEAT = {"resolved": 0.07, "partial": 0.16, "unresolved": 0.30, "unclear": 0.12}
#: How the agent's courtesy leans the customer's closing mood; the corpus itself keeps the two nearly independent.
LEAN = {
    "courteous": {"singing": 1.6, "neutral": 1.0, "grumbling": 0.7},
    "neutral": {"singing": 1.0, "neutral": 1.4, "grumbling": 1.0},
    "discourteous": {"singing": 0.7, "neutral": 1.0, "grumbling": 1.6},
}
QUEUES = {
    "technical": r"telecom|internet|broadband|helpdesk|software|cable|it service|line faults|electronics|warranty|repair|mobile|streaming",
    "billing": r"bank|loan|credit|insur|tax|pension|payment|fraud|payroll|mortgage|card|water|gas|electric",
    "orders": r"retail|fashion|furniture|deliver|parcel|courier|grocer|seed|shop|online|appliance|optic|toys|catalogue",
    "bookings": r"hotel|airline|travel|train|restaurant|ticket|theatre|cinema|clinic|health|surgery|car hire|ferr|gym|coach",
}
REASONS = {
    "refund": r"refund|money back",
    "bill": r"\bbill|charge|fee\b|price",
    "delivery": r"deliver|parcel|arrive|package",
    "fault": r"broken|fault|not working|doesn't work|stopped|leak|crackl|error",
    "cancellation": r"cancel",
    "booking": r"\bbook|appointment|reserv|ticket",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """One call of the corpus, with what raters said of it."""

    courtesy: str
    resolution: str
    closing: str
    queue: str
    reason: str
    turns: list[dict[str, str]]


@dataclass(slots=True, kw_only=True)
class Customer:
    """A life: what the customer is like (random effects), the last call's truth, and what happened."""

    id: str
    order_effect: float
    spend_level: float
    calls_a_day: float
    gone: bool = False
    last: Truth | None = None
    repeat_at: datetime | None = None
    events: list[tuple[str, datetime, float | None]] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Agent:
    """An agent's odds of being courteous and discourteous, and what the agent adds to orders."""

    id: str
    team: str
    courteous: float
    discourteous: float
    order_effect: float


def read_corpus() -> list[Truth]:
    """The calls of earlier_calls.csv."""
    names = {"A": "agent", "C": "customer", "O": "unknown"}
    out = []
    with (HERE / "earlier_calls.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            said = [line.split(": ", 1) for line in row["talk"].splitlines()]
            turns = [{"speaker": names[who], "text": text} for who, text in said]
            asked = " ".join(turn["text"].lower() for turn in turns if turn["speaker"] == "customer")
            queue, reason = first_match(QUEUES, row["domain"], "general"), first_match(REASONS, asked, "information")
            labels = {name: row[name] for name in ("courtesy", "resolution", "closing")}
            out.append(Truth(**labels, queue=queue, reason=reason, turns=turns))
    return out


def first_match(patterns: dict[str, str], text: str, otherwise: str) -> str:
    """The name of the first pattern found in the text."""
    return next((name for name, pattern in patterns.items() if re.search(pattern, text)), otherwise)


def make_agents(chance: random.Random) -> list[Agent]:
    """Twelve agents in three teams, some more courteous than others."""
    out = []
    for number in range(12):
        lean = chance.gauss(0.0, 0.5)
        odds = [math.exp(lean), 1.2, math.exp(-lean)]
        share = [value / sum(odds) for value in odds]
        effect = chance.gauss(0.0, 0.08)
        out.append(Agent(id=f"a{number + 1:02d}", team=TEAMS[number % 3], courteous=share[0], discourteous=share[2], order_effect=effect))
    return out


def make_customers(chance: random.Random) -> list[Customer]:
    """The followed ones first; the others call too, but nobody knows what they did later."""
    out = []
    for number in range(FOLLOWED + OTHERS):
        calls_in_150_days = (9.0 if number < FOLLOWED else 2.6) * math.exp(chance.gauss(0.0, 0.25))
        order_effect, spend_level = chance.gauss(0.0, 0.25), chance.gauss(3.4, 0.3)
        name, daily = f"k{number + 1:03d}", calls_in_150_days / 150
        out.append(Customer(id=name, calls_a_day=daily, order_effect=order_effect, spend_level=spend_level))
    return out


def pick(chance: random.Random, left: list[Truth], agent: Agent, day: datetime, queue: str | None) -> Truth:
    """Take one call out of those left: its courtesy by the agent, its closing leaning on the courtesy."""
    courteous, discourteous = agent.courteous, agent.discourteous
    if agent.id in TRAINED and day >= TRAINED[agent.id]:
        courteous, discourteous = courteous * 1.8, discourteous * 0.5
    kinds = {"courteous": courteous, "discourteous": discourteous, "neutral": max(0.15, 1.0 - courteous - discourteous)}
    wanted = chance.choices(list(kinds), list(kinds.values()))[0]
    pool = [truth for truth in left if truth.courtesy == wanted and queue in (None, truth.queue)] or left
    chosen = chance.choices(pool, [LEAN[truth.courtesy][truth.closing] for truth in pool])[0]
    left.remove(chosen)
    return chosen


def live(chance: random.Random, customer: Customer, day: datetime, agents: dict[str, float]) -> None:
    """One day without or after calls: order, spend, leave, at the rates that the last call left behind."""
    if customer.gone:
        return
    last, when = customer.last, day + timedelta(seconds=chance.randrange(8 * 3600, 21 * 3600))
    labels = (last.courtesy, last.resolution, last.closing) if last else ()

    def rate(kind: str) -> float:
        # "neutral" stands in two dimensions and moves nothing.
        return RATE_30[kind] / 30 * math.prod(EFFECT[kind].get(label, 1.0) for label in labels)

    orders = rate("reorder") * math.exp(customer.order_effect + agents.get(customer.id, 0.0))
    if chance.random() < orders * (QUEUE_EFFECT[last.queue] if last else 1.0):
        customer.events.append(("reorder", when, money(chance, 4.0)))
    if chance.random() < rate("spend"):
        mood = {"singing": 0.45, "grumbling": -0.15}.get(last.closing if last else "", 0.0)
        customer.events.append(("spend", when, money(chance, customer.spend_level + mood)))
    if day >= CALLS_FROM and chance.random() < rate("churn"):
        customer.events.append(("churn", when + timedelta(hours=2), None))
        customer.gone = True


def money(chance: random.Random, level: float) -> float:
    """A log-normal amount."""
    return round(math.exp(chance.gauss(level, 0.4)), 2)


def office_hour(chance: random.Random, day: datetime) -> datetime:
    """Some second between 8:00 and 18:00."""
    return day + timedelta(seconds=chance.randrange(8 * 3600, 18 * 3600))


class World:
    """All customers, agents and calls, lived through from `OBSERVED_FROM` to `OBSERVED_UNTIL`."""

    def __init__(self, scripts: Sequence[dict[str, Any]]) -> None:
        self.chance = random.Random(SEED)
        self.agents = make_agents(self.chance)
        self.customers = make_customers(self.chance)
        self.left = read_corpus()
        self.scripts = sorted(scripts, key=lambda call: call["started_at"])
        self.served_by: dict[str, float] = {}
        self.history: list[dict[str, Any]] = []
        self.callers: dict[str, str] = {}

    def run(self) -> None:
        """Live day by day; recorded calls come in on their dates, each to a customer who is still there."""
        day = OBSERVED_FROM
        while day < OBSERVED_UNTIL:
            for customer in self.customers:
                live(self.chance, customer, day, self.served_by)
            if CALLS_FROM <= day < HISTORY_UNTIL:
                for customer in self.customers:
                    self.maybe_call(customer, day)
            for script in self.scripts:
                if script["started_at"][:10] == day.date().isoformat():
                    self.recorded(script)
            day += timedelta(days=1)

    def maybe_call(self, customer: Customer, day: datetime) -> None:
        if customer.gone or day.weekday() == 6:
            return
        again = customer.repeat_at is not None and customer.repeat_at <= day
        if not again and self.chance.random() > customer.calls_a_day:
            return
        at, agent = office_hour(self.chance, day), self.chance.choice(self.agents)
        queue = customer.last.queue if again and customer.last else None
        truth = pick(self.chance, self.left, agent, day, queue)
        if again:
            customer.events.append(("repeat_call", at, None))
            customer.repeat_at = None
        number = len(self.history) + 1
        done = {"resolved": "closed", "partial": "follow-up", "unresolved": "closed", "unclear": "abandoned"}[truth.resolution]
        row: dict[str, Any] = {"call_id": f"h-{number:04d}", "language": "en", "agent_id": agent.id, "customer_id": customer.id}
        row |= {"started_at": at.isoformat(), "contact_id": f"x{number:04d}", "leg": 1, "direction": "inbound", "queue": truth.queue}
        row |= {"reason": truth.reason, "disposition": done, "ended_by": self.chance.choice(("customer", "customer", "agent"))}
        self.history.append(row | {"turns": truth.turns})
        self.after(customer, truth, day, agent.order_effect)

    def after(self, customer: Customer, truth: Truth, day: datetime, effect: float) -> None:
        customer.last, self.served_by[customer.id] = truth, effect
        if self.chance.random() < REPEAT[truth.resolution] * (1.2 if truth.closing == "grumbling" else 1.0):
            customer.repeat_at = day + timedelta(days=self.chance.randrange(2, 13))

    def recorded(self, script: dict[str, Any]) -> None:
        if (other := script.get("same_customer_as")) is not None:
            customer = next(one for one in self.customers if one.id == self.callers[other])
        else:
            free = [one for one in self.customers[:FOLLOWED] if not one.gone and one.id not in self.callers.values()]
            customer = self.chance.choice(free)
        self.callers[script["id"]] = customer.id
        if "courtesy" in script and script["resolution"] != "unclear":
            labels = {name: script[name] for name in ("courtesy", "resolution", "closing")}
            truth = Truth(**labels, queue=script["queue"], reason=script["reason"], turns=[])
            effect = next(agent.order_effect for agent in self.agents if agent.id == script["agent_id"])
            self.after(customer, truth, datetime.fromisoformat(script["started_at"]), effect)


def outcome_rows(customers: Iterable[Customer]) -> list[list[str]]:
    """A row per event, and per customer and kind without one a row without a date."""
    out = []
    for customer in customers:
        for kind in KINDS:
            span = [OBSERVED_UNTIL.isoformat(), OBSERVED_FROM.isoformat()]
            events = sorted((at, amount) for name, at, amount in customer.events if name == kind and at <= OBSERVED_UNTIL)
            for at, amount in events:
                out.append([customer.id, kind, at.isoformat(), "" if amount is None else f"{amount:.2f}", *span])
            if not events:
                out.append([customer.id, kind, "", "", *span])
    return out


def call_rows(scripts: Iterable[dict[str, Any]], callers: dict[str, str]) -> list[list[str]]:
    """The recordings' rows of calls.csv."""
    out = []
    for call in scripts:
        contact, leg = call.get("contact", "x-" + call["id"]), str(call.get("leg", 1))
        where = [call["id"], call["file"], call["agent_id"], callers[call["id"]], call["started_at"], call.get("direction", "inbound")]
        out.append([*where, call["queue"], call["reason"], contact, leg, call.get("disposition", "closed"), call["ended_by"]])
    return out


def write_table(name: str, header: str, rows: Iterable[Sequence[str]]) -> None:
    """A CSV beside the recordings."""
    with (SAMPLE / name).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header.split(","))
        writer.writerows(rows)


def main() -> None:
    """Write history.jsonl, calls.csv, agents.csv, outcomes.csv and scripted_labels.csv."""
    from record import read_scripts  # the script beside this one; it needs numpy

    scripts = read_scripts()
    world = World(scripts)
    world.run()
    world.history.sort(key=lambda call: str(call["started_at"]))
    lines = [json.dumps(call, ensure_ascii=False) + "\n" for call in world.history]
    (SAMPLE / "history.jsonl").write_text("".join(lines), encoding="utf-8")
    header = "call_id,file,agent_id,customer_id,started_at,direction,queue,reason,contact_id,leg,disposition,ended_by"
    write_table("calls.csv", header, call_rows(scripts, world.callers))
    agents = [[one.id, one.team, TRAINED[one.id].isoformat() if one.id in TRAINED else ""] for one in world.agents]
    write_table("agents.csv", "agent_id,team,trained_at", agents)
    write_table("outcomes.csv", "customer_id,kind,occurred_at,amount,observed_until,observed_from", outcome_rows(world.customers[:FOLLOWED]))
    labels = [[call[name] for name in ("id", "courtesy", "resolution", "closing")] for call in scripts if "courtesy" in call]
    write_table("scripted_labels.csv", "call_id,courtesy,resolution,closing", labels)


if __name__ == "__main__":
    main()
