"""The proven least sum of completion times of an instance, by CP-SAT on an integer program of the simulator's model.

The variables are the host of each microservice and the start of its flow and of its execution; every flow is sent at
full rate. Links and hosts are cumulative resources. There is no order of decisions, and flows and executions may wait
arbitrarily. A flow without data has no duration and may start at any instant from ready on, as a held one does.

Loads, data, speeds, bandwidths and latencies must be such that all durations are whole seconds.
"""

import itertools
from fractions import Fraction
from typing import Any, NamedTuple

from ortools.sat.python import cp_model

from helpers.oracle import link_resources, parcels, predecessors, shortest_route

Microservice = tuple[int, int]  # service, index within it
Parcel = tuple[int | None, Fraction]  # predecessor that sends it, or None for external input; Mbit
UNIT = 192  # shares of a link's bandwidth are whole multiples of 1 / UNIT: thirds, and halves of them down to 1 / 64
STEPS = 64  # per second; decisions that `due_times` orders are a step apart, which is exact in float32
FEW = 10  # s, for the second search, of an optimum of least wait


class Optimum(NamedTuple):
    """A schedule of least cost; times in s."""

    total: int  # sum of completion times
    proved: bool
    host: dict[Microservice, int]
    flow_start: dict[Microservice, int]
    data_ready: dict[Microservice, int]
    start: dict[Microservice, int]
    finish: dict[Microservice, int]
    wait: int  # sum of the waits of executions after their input has arrived
    seconds: float  # duration of the proof


class Program:
    """The variables and constraints of one instance.

    Args:
        instance: the arguments of `jaxcec.env.build_instance`; microservices have few predecessors.
        latest: s, after which nothing starts; by default all instants that an optimum may have are possible.
    """

    def __init__(self, instance: dict[str, Any], latest: int | None = None) -> None:
        self.instance, self.model = instance, cp_model.CpModel()
        self.num_nodes, self.resources = len(instance["node_speed"]), link_resources(instance["links"])
        self.speed = [*instance["node_speed"], *instance["device_speed"]]
        kinds = len(instance["capacity"][0])
        self.capacity = [*instance["capacity"], *[[1] * kinds] * self.num_nodes]
        nodes = range(self.num_nodes)
        self.routes = {(a, b): shortest_route(instance["links"], a, b) for a in nodes for b in nodes}
        services = instance["services"]
        longest = sum(self._longest(service, j) for service in services for j in range(len(service["load"])))
        self.horizon = self._horizon() if latest is None else latest + longest
        self.running = [[] for _ in self.speed]  # (interval, demand of each kind) by host
        self.flowing = []  # (interval, usage of each link resource)
        self.runs, self.node = {}, {}
        self.ready, self.flow_start, self.data_ready, self.start, self.finish = {}, {}, {}, {}, {}
        for i, service in enumerate(services):
            for j in range(len(service["load"])):
                self._place(i, j, service)
        self._respect_capacities()
        # Of each execution, after its input has arrived.
        self.wait = [self.start[what] - self.data_ready[what] for what in self.start]
        self.total = sum(self._completion(i, service) for i, service in enumerate(services))

    def _horizon(self) -> int:
        """An instant that no optimum exceeds.

        Run in sequence, all services together take no longer than `alone`; hence so does each, and an optimum costs no
        more than that many times their number. Where nothing must move, the sequence is at the services' sources.
        """
        services = self.instance["services"]
        alone = 0
        for service in services:
            members, source = range(len(service["load"])), service["source"]
            if all(self._duration(service, j, source) is not None for j in members):
                alone += sum(self._duration(service, j, source) for j in members)
            else:
                alone += sum(self._longest(service, j) for j in members)
        return max(service["release"] for service in services) + len(services) * alone

    def _longest(self, service: dict[str, Any], j: int) -> int:
        """The longest flow, latency and execution of a microservice."""
        hosts = range(len(self.speed))
        execution = max(d for h in hosts if (d := self._duration(service, j, h)) is not None)
        return execution + max(row[-2] + row[-1] for row in self._flows(service, j))

    def _duration(self, service: dict[str, Any], j: int, h: int) -> int | None:
        """Duration of an execution on a host, or None if the host cannot run it."""
        load, demand = service["load"][j], service["demand"][j]
        if load > 0 and self.speed[h] == 0:
            return None
        if h < self.num_nodes and any(r > c for r, c in zip(demand, self.capacity[h], strict=True)):
            return None
        return whole(Fraction(load) / Fraction(self.speed[h])) if load > 0 else 0

    def _place(self, i: int, j: int, service: dict[str, Any]) -> None:
        """Host, flow and execution of one microservice."""
        model, what = self.model, (i, j)
        runs = [model.new_bool_var("") for _ in self.speed]
        model.add_exactly_one(runs)
        self.runs[what], self.node[what] = runs, self._instant(self.num_nodes - 1)
        model.add(self.node[what] == sum(h % self.num_nodes * run for h, run in enumerate(runs)))

        ready, flow_start, data_ready, start, finish = (self._instant() for _ in range(5))
        before = [self.finish[i, k] for k in predecessors(service, j)]
        model.add_max_equality(ready, before or [service["release"]])
        self.ready[what], self.flow_start[what] = ready, flow_start
        self.data_ready[what], self.start[what] = data_ready, start
        model.add(flow_start >= ready)
        model.add(data_ready == flow_start + self._flow(what, service))
        model.add(start >= data_ready)

        durations = [self._duration(service, j, h) for h in range(len(self.speed))]
        self.finish[what] = finish
        model.add(finish == start + sum((d or 0) * run for d, run in zip(durations, runs, strict=True)))
        for h, (duration, run) in enumerate(zip(durations, runs, strict=True)):
            if duration is None:
                model.add(run == 0)
                continue
            demand = [min(r, c) for r, c in zip(service["demand"][j], self.capacity[h], strict=True)]
            interval = model.new_optional_fixed_size_interval_var(start, duration, run, "")
            self.running[h].append((interval, demand))

    def _flow(self, what: Microservice, service: dict[str, Any]) -> cp_model.LinearExpr:
        """Time that the flow takes, latency included, as a table over the locations of the input and the target."""
        usage = [self._instant(UNIT) for _ in self.resources]
        duration, latency = self._instant(), self._instant()
        senders = [k for k, _ in self._parcels(service, what[1]) if k is not None]
        ends = [*(self.node[what[0], k] for k in senders), self.node[what]]
        self.model.add_allowed_assignments([*ends, *usage, duration, latency], self._flows(service, what[1]))
        end = self._instant()
        self.flowing.append((self.model.new_interval_var(self.flow_start[what], duration, end, ""), usage))
        return duration + latency

    def _flows(self, service: dict[str, Any], j: int) -> list[tuple[int, ...]]:
        """Nodes of the predecessors that send something, target, share of each link, duration and latency."""
        sent = self._parcels(service, j)
        senders = [k for k, _ in sent if k is not None]
        rows = []
        for *places, target in itertools.product(range(self.num_nodes), repeat=len(senders) + 1):
            at = dict(zip(senders, places, strict=True)) | {None: service["source"]}
            rows.append((*places, target, *self._coflow([(at[k], data) for k, data in sent], target)))
        return rows

    def _parcels(self, service: dict[str, Any], j: int) -> list[Parcel]:
        """The parts of a microservice's input that are not empty."""
        return [(k, Fraction(data)) for k, data in parcels(service, j) if data > 0]

    def _coflow(self, input_at: list[tuple[int, Fraction]], target: int) -> list[int]:
        """A coflow at full rate: its share of each link resource in units, its duration and its latency."""
        alone, latency = [Fraction(0)] * len(self.resources), 0
        for holder, data in input_at:
            route = self.routes[holder, target]
            for e in route:
                alone[e] += data / Fraction(self.resources[e][0])
            latency = max(latency, sum(whole(Fraction(self.resources[e][1])) for e in route))
        longest = max(alone)
        return [*(whole(UNIT * x / longest) if longest else 0 for x in alone), whole(longest), latency]

    def _respect_capacities(self) -> None:
        for h, capacity in enumerate(self.capacity):
            if not self.running[h]:
                continue
            intervals, demands = zip(*self.running[h], strict=True)
            for kind, most in enumerate(capacity):
                self.model.add_cumulative(intervals, [demand[kind] for demand in demands], most)
        intervals, usages = zip(*self.flowing, strict=True)
        for e in range(len(self.resources)):
            self.model.add_cumulative(intervals, [usage[e] for usage in usages], UNIT)

    def _completion(self, i: int, service: dict[str, Any]) -> cp_model.LinearExpr:
        last = self._instant()
        self.model.add_max_equality(last, [self.finish[i, j] for j in range(len(service["load"]))])
        return last - service["release"]

    def decide_blockers_first(self) -> None:
        """Allow an execution to wait only for executions that can be decided before it; see `blockers`."""
        model, due, host = self.model, {}, {}
        for what, runs in self.runs.items():
            due[what] = self._instant(STEPS * self.horizon)
            model.add(due[what] >= STEPS * self.ready[what])
            model.add(due[what] <= STEPS * self.flow_start[what])
            host[what] = sum(h * run for h, run in enumerate(runs))
        for what, other in itertools.permutations(self.runs, 2):
            reasons = [
                self.start[what] == self.data_ready[what],
                host[what] != host[other],
                self.start[other] >= self.start[what],
                self.finish[other] <= self.data_ready[what],
                due[other] + 1 <= due[what],
            ]
            holds = [model.new_bool_var("") for _ in reasons]
            for reason, literal in zip(reasons, holds, strict=True):
                model.add(reason).only_enforce_if(literal)
            model.add_bool_or(holds)

    def _instant(self, most: int | None = None) -> cp_model.IntVar:
        return self.model.new_int_var(0, self.horizon if most is None else most, "")


def solve(instance: dict[str, Any], seconds: float, *, waits: bool = True, in_order: bool = False) -> Optimum:
    """An optimum, and whether it is proved; among the optima found in FEW more seconds, one of least wait.

    Args:
        instance: see `Program`.
        seconds: time limit of the proof.
        waits: whether an execution may start later than its input arrives.
        in_order: whether it may do so only if what it waits for can be decided first.
    """
    program, solver = Program(instance), cp_model.CpSolver()
    solver.parameters.num_workers, solver.parameters.max_time_in_seconds = 2, seconds
    model = program.model
    if not waits:
        model.add(sum(program.wait) == 0)
    if in_order:
        program.decide_blockers_first()
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

    def times(variables: dict[Microservice, cp_model.IntVar]) -> dict[Microservice, int]:
        return {what: solver.value(variable) for what, variable in variables.items()}

    return Optimum(
        total=total,
        proved=proved,
        host={what: [solver.value(run) for run in runs].index(1) for what, runs in program.runs.items()},
        flow_start=times(program.flow_start),
        data_ready=times(program.data_ready),
        start=times(program.start),
        finish=times(program.finish),
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
    program, solver = Program(instance, latest=max(start.values())), cp_model.CpSolver()
    for what, runs in program.runs.items():
        program.model.add(runs[host[what]] == 1)
        program.model.add(program.flow_start[what] == flow_start[what])
        program.model.add(program.start[what] == start[what])
    solved = solver.solve(program.model) == cp_model.OPTIMAL
    return solver.value(program.total) if solved else None


def blockers(optimum: Optimum, what: Microservice) -> list[Microservice]:
    """The executions on the same host which run while this one waits: only they can keep it from starting earlier."""
    if optimum.start[what] == optimum.data_ready[what]:
        return []
    return [
        other
        for other in optimum.start
        if optimum.host[other] == optimum.host[what]
        and optimum.start[other] < optimum.start[what]
        and optimum.finish[other] > optimum.data_ready[what]
    ]


def due_times(instance: dict[str, Any], optimum: Optimum) -> dict[Microservice, float]:
    """When to take each decision so that, where possible, nothing can start earlier than in the optimum.

    An execution that waits in the optimum is decided as late as possible, which is when its flow starts, and the
    executions for which it waits just before it, but never before they are ready.
    """
    due: dict[Microservice, float] = {}
    for what in sorted(optimum.start, key=optimum.start.get, reverse=True):
        service = instance["services"][what[0]]
        ready = max([service["release"], *(optimum.finish[what[0], k] for k in predecessors(service, what[1]))])
        first = [due[other] - 1 / STEPS for other in due if what in blockers(optimum, other)]
        due[what] = max(float(ready), min([float(optimum.flow_start[what]), *first]))
    return due


def whole(value: Fraction) -> int:
    """The integer that a fraction must be."""
    assert value.denominator == 1, f"{value} is not whole: the instance is not exact"
    return value.numerator
