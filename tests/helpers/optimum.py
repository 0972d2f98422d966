"""The proven least sum of completion times of an instance, by CP-SAT on an integer program of the simulator's model.

The variables are the host of each microservice and the start of its flow and of its execution; every flow is sent at
full rate. Links and hosts are cumulative resources. There is no order of decisions, and flows and executions may wait
arbitrarily.

Loads, data, speeds and bandwidths must be such that all durations are whole seconds.
"""

import itertools
import math
from fractions import Fraction
from typing import Any, NamedTuple

from ortools.sat.python import cp_model

from helpers.oracle import shortest_route

Microservice = tuple[int, int]  # service, index within it
UNIT = 64  # shares of a link's bandwidth are whole multiples of 1 / UNIT
FEW = 10  # s, for the second search, of an optimum of least wait


class Optimum(NamedTuple):
    """A schedule of least cost; times in s."""

    total: int  # sum of completion times
    proved: bool
    host: dict[Microservice, int]
    flow_start: dict[Microservice, int]
    start: dict[Microservice, int]
    wait: int  # sum of the waits of executions after their input has arrived
    seconds: float  # duration of the proof


class Program:
    """The variables and constraints of one instance.

    Args:
        instance: the arguments of `jaxcec.env.build_instance`; microservices have few predecessors.
    """

    def __init__(self, instance: dict[str, Any]) -> None:
        self.instance, self.model = instance, cp_model.CpModel()
        self.num_nodes, self.num_links = len(instance["node_speed"]), len(instance["links"])
        self.speed = [*instance["node_speed"], *instance["device_speed"]]
        kinds = len(instance["capacity"][0])
        self.capacity = [*instance["capacity"], *[[1] * kinds] * self.num_nodes]
        nodes = range(self.num_nodes)
        self.routes = {(a, b): shortest_route(instance["links"], a, b) for a in nodes for b in nodes}
        services = instance["services"]
        # In sequence at their sources, no service takes longer than all of them together, and an optimum costs no more.
        alone = sum(load / self.speed[s["source"]] for s in services for load in s["load"])
        self.horizon = math.ceil(max(s["release"] for s in services) + len(services) * alone)
        self.running = [[] for _ in self.speed]  # (interval, demand of each kind) by host
        self.flowing = []  # (interval, usage of each link)
        self.runs, self.node, self.flow_start, self.start, self.finish = {}, {}, {}, {}, {}
        self.wait = []  # of each execution, after its input has arrived
        for i, service in enumerate(services):
            for j in range(len(service["load"])):
                self._place(i, j, service)
        self._respect_capacities()
        self.total = sum(self._completion(i, service) for i, service in enumerate(services))

    def _place(self, i: int, j: int, service: dict[str, Any]) -> None:
        """Host, flow and execution of one microservice."""
        model, what = self.model, (i, j)
        runs = [model.new_bool_var("") for _ in self.speed]
        model.add_exactly_one(runs)
        self.runs[what], self.node[what] = runs, self._instant(self.num_nodes - 1)
        model.add(self.node[what] == sum(h % self.num_nodes * run for h, run in enumerate(runs)))

        ready, flow_start, start, finish = (self._instant() for _ in range(4))
        model.add_max_equality(ready, [self.finish[i, k] for k in service["preds"][j]] or [service["release"]])
        self.flow_start[what], self.start[what], self.finish[what] = flow_start, start, finish
        moves, duration = self._flow(what, service)
        model.add(flow_start >= ready)
        model.add(flow_start == ready).only_enforce_if(~moves)  # a flow without data has no hold
        model.add(start >= flow_start + duration)
        self.wait.append(start - flow_start - duration)

        durations = [whole(Fraction(service["load"][j]) / Fraction(speed)) for speed in self.speed]
        model.add(finish == start + sum(d * run for d, run in zip(durations, runs, strict=True)))
        for h, (duration, run) in enumerate(zip(durations, runs, strict=True)):
            demand = [min(r, c) for r, c in zip(service["demand"][j], self.capacity[h], strict=True)]
            interval = model.new_optional_fixed_size_interval_var(start, duration, run, "")
            self.running[h].append((interval, demand))

    def _flow(self, what: Microservice, service: dict[str, Any]) -> tuple[cp_model.IntVar, cp_model.IntVar]:
        """Existence and duration of the flow, as a table over the locations of the input and the target."""
        preds = [(what[0], k) for k in service["preds"][what[1]]]
        nodes = range(self.num_nodes)
        rows = []
        for places in itertools.product(nodes, repeat=len(preds) + 1):
            holders = places[:-1] or (service["source"],)
            duration, *usage = self._coflow(service["data"][what[1]], holders, places[-1])
            rows.append((*places, duration > 0, duration, *usage))
        moves, duration = self.model.new_bool_var(""), self._instant()
        usage = [self._instant(UNIT) for _ in range(self.num_links)]
        ends = [*(self.node[pred] for pred in preds), self.node[what]]
        self.model.add_allowed_assignments([*ends, moves, duration, *usage], rows)
        end = self._instant()
        self.flowing.append((self.model.new_interval_var(self.flow_start[what], duration, end, ""), usage))
        return moves, duration

    def _coflow(self, data: int, holders: tuple[int, ...], target: int) -> list[int]:
        """Duration of a coflow at full rate, and its share of each link in units."""
        alone = [Fraction(0)] * self.num_links
        for holder in holders:
            for e in self.routes[holder, target]:
                alone[e] += Fraction(data, len(holders)) / self.instance["links"][e][2]
        longest = max(alone)
        return [whole(longest), *(whole(UNIT * x / longest) if longest else 0 for x in alone)]

    def _respect_capacities(self) -> None:
        for h, capacity in enumerate(self.capacity):
            intervals, demands = zip(*self.running[h], strict=True)
            for kind, most in enumerate(capacity):
                self.model.add_cumulative(intervals, [demand[kind] for demand in demands], most)
        intervals, usages = zip(*self.flowing, strict=True)
        for e in range(self.num_links):
            self.model.add_cumulative(intervals, [usage[e] for usage in usages], UNIT)

    def _completion(self, i: int, service: dict[str, Any]) -> cp_model.LinearExpr:
        last = self._instant()
        self.model.add_max_equality(last, [self.finish[i, j] for j in range(len(service["load"]))])
        return last - service["release"]

    def _instant(self, most: int | None = None) -> cp_model.IntVar:
        return self.model.new_int_var(0, self.horizon if most is None else most, "")


def solve(instance: dict[str, Any], seconds: float, waits: bool = True) -> Optimum:
    """An optimum, and whether it is proved; among the optima found in FEW more seconds, one of least wait.

    Args:
        instance: see `Program`.
        seconds: time limit of the proof.
        waits: whether an execution may start later than its input arrives.
    """
    program, solver = Program(instance), cp_model.CpSolver()
    solver.parameters.num_workers, solver.parameters.max_time_in_seconds = 2, seconds
    model = program.model
    if not waits:
        model.add(sum(program.wait) == 0)
    model.minimize(program.total)
    status, took = solver.solve(model), solver.wall_time
    total, proved = round(solver.objective_value), status == cp_model.OPTIMAL
    runs = itertools.chain(*program.runs.values())
    for variable in [*program.flow_start.values(), *program.start.values(), *runs]:
        model.add_hint(variable, solver.value(variable))
    model.add(program.total == total)
    model.minimize(sum(program.wait))
    solver.parameters.max_time_in_seconds = FEW
    solver.solve(model)
    return Optimum(
        total=total,
        proved=proved,
        host={what: [solver.value(run) for run in runs].index(1) for what, runs in program.runs.items()},
        flow_start={what: solver.value(start) for what, start in program.flow_start.items()},
        start={what: solver.value(start) for what, start in program.start.items()},
        wait=round(solver.objective_value),
        seconds=took,
    )


def total_of(
    instance: dict[str, Any],
    *,
    host: dict[Microservice, int],
    flow_start: dict[Microservice, int],
    start: dict[Microservice, int],
) -> int | None:
    """The sum of completion times of a schedule, or None if it violates a constraint."""
    program, solver = Program(instance), cp_model.CpSolver()
    for what, runs in program.runs.items():
        program.model.add(runs[host[what]] == 1)
        program.model.add(program.flow_start[what] == flow_start[what])
        program.model.add(program.start[what] == start[what])
    solved = solver.solve(program.model) == cp_model.OPTIMAL
    return solver.value(program.total) if solved else None


def whole(value: Fraction) -> int:
    """The integer that a fraction must be."""
    assert value.denominator == 1, f"{value} is not whole: the instance is not exact"
    return value.numerator
