"""Episodes under a rule, one decision after the other."""

from __future__ import annotations

import numpy as np

from scalar.records import NEVER, ONE, ZERO, Bank, Decision, Episode, Episodes, Float, Placement, State
from scalar.timelines import clear, compiled, earliest_start, reserve

RULES = ("random", "le", "eft")
RANDOM, LE, EFT = range(3)


@compiled
def offered_share(bank: Bank, episode: Episode, resource: int, elapsed: int) -> Float:
    """Return the share of a link, or of host h as resource E + h, that other tenants leave."""
    frame = episode.phase[resource] + elapsed
    frames = bank.offered.shape[1]
    return bank.offered[episode.trace[resource], frame if frame < frames else frame - frames]


@compiled
def begin(bank: Bank, episodes: Episodes, n: int, state: State) -> Episode:
    """Begin episode n: nothing is reserved and every service waits for its first microservice."""
    topology, arrivals = episodes.topology[n], episodes.arrivals[n]
    dag, release = bank.dag[arrivals], bank.release[arrivals]
    clear(state.links)
    clear(state.hosts)
    for i in range(dag.size):
        state.next_ready[i], state.next_microservice[i] = release[i], bank.entry[dag[i]]
        state.completion[i] = ZERO
        state.pending[i] = bank.in_degree[dag[i]]
        state.ready[i] = release[i]
    return Episode(
        topology,
        bank.bandwidth[topology],
        bank.speed[topology],
        bank.capacity[topology],
        dag,
        bank.source[arrivals],
        release,
        episodes.trace[n],
        episodes.phase[n],
    )


@compiled
def current_decision(bank: Bank, episode: Episode, state: State) -> Decision:
    """Return the undecided microservice that is ready first; ties go to the lowest service, then microservice."""
    service = 0
    for i in range(1, state.next_ready.size):
        if state.next_ready[i] < state.next_ready[service]:
            service = i
    now = state.next_ready[service]
    elapsed = int(now / bank.frame) % bank.offered.shape[1] if now < NEVER else 0
    return Decision(service, state.next_microservice[service], episode.dag[service], now, elapsed)


@compiled
def locate_inputs(bank: Bank, episode: Episode, state: State, decision: Decision) -> None:
    """Divide the input equally among the nodes where the predecessors ran; that of an entry is at the source."""
    inputs = state.inputs
    inputs[:] = ZERO
    task = decision.dag * bank.load.shape[1] + decision.microservice
    first, end = bank.preds.begin[task], bank.preds.begin[task + 1]
    for p in range(first, end):
        inputs[state.node[decision.service, bank.preds.item[p]]] += ONE
    if first == end:
        inputs[episode.source[decision.service]] = ONE
    data, count = bank.data[decision.dag, decision.microservice], np.float32(max(end - first, 1))
    for node in range(inputs.size):
        inputs[node] = data * (inputs[node] / count)


@compiled
def request_coflow(bank: Bank, episode: Episode, state: State, decision: Decision, target: int) -> Float:
    """Request the coflow that moves the input to a node at full rate; returns the effective bottleneck G, s."""
    request, traffic, count, bottleneck = state.coflow, state.traffic, 0, ZERO
    num_nodes = state.inputs.size
    for node in range(num_nodes):
        if node == target or state.inputs[node] == ZERO:
            continue
        path = (episode.topology * num_nodes + node) * num_nodes + target
        for p in range(bank.route.begin[path], bank.route.begin[path + 1]):
            link = bank.route.item[p]
            if traffic[link] == ZERO:
                request.resource[target, count] = link
                count += 1
            traffic[link] += state.inputs[node]
    for i in range(count):
        link = request.resource[target, i]
        offered = episode.bandwidth[link] * offered_share(bank, episode, link, decision.elapsed)
        request.usage[target, i] = traffic[link] / offered
        bottleneck = max(bottleneck, request.usage[target, i])
        traffic[link] = ZERO
    for i in range(count):
        offered = offered_share(bank, episode, request.resource[target, i], decision.elapsed)
        request.usage[target, i] = request.usage[target, i] / bottleneck * offered
    request.count[target] = count
    return bottleneck


@compiled
def place(bank: Bank, episode: Episode, state: State, decision: Decision, host: int, deadline: Float) -> Placement:
    """Find the earliest flow and execution on a host; `finish` is infinite if an idle host would miss the deadline."""
    node, now = host % state.inputs.size, decision.time
    transfer = request_coflow(bank, episode, state, decision, node)
    offered = episode.speed[host] * offered_share(bank, episode, episode.bandwidth.size + host, decision.elapsed)
    duration = bank.load[decision.dag, decision.microservice] / offered
    if now + transfer + duration >= deadline:
        return Placement(host, now, now, now, NEVER)
    for r in range(episode.capacity.shape[1]):
        demand = bank.demand[decision.dag, decision.microservice, r]
        state.execution.usage[host, r] = min(demand / episode.capacity[host, r], ONE)
    flow_start = earliest_start(state.links, 0, state.coflow, node, now, transfer)
    data_ready = flow_start + transfer
    start = earliest_start(state.hosts, host, state.execution, host, data_ready, duration)
    return Placement(host, flow_start, data_ready, start, start + duration)


@compiled
def place_by_rule(rule: int, bank: Bank, episode: Episode, state: State, decision: Decision) -> Placement:
    """Place the current microservice as the rule does."""
    num_nodes = state.inputs.size
    if rule == RANDOM:
        return place(bank, episode, state, decision, np.random.randint(num_nodes), NEVER)
    if rule == LE:
        host = num_nodes + np.int64(episode.source[decision.service])
        return place(bank, episode, state, decision, host, NEVER)
    best = place(bank, episode, state, decision, 0, NEVER)
    for node in range(1, num_nodes):
        placement = place(bank, episode, state, decision, node, best.finish)
        if placement.finish < best.finish:
            best = placement
    return best


@compiled
def commit(bank: Bank, episode: Episode, state: State, decision: Decision, placement: Placement) -> None:
    """Reserve a placement and find the service's next microservice."""
    i, j, now = decision.service, decision.microservice, decision.time
    node = placement.host % state.inputs.size
    reserve(state.links, 0, state.coflow, node, placement.flow_start, placement.data_ready, now)
    reserve(state.hosts, placement.host, state.execution, placement.host, placement.start, placement.finish, now)
    state.completion[i] = max(state.completion[i], placement.finish - episode.release[i])
    state.node[i, j], state.pending[i, j] = node, -1
    task = decision.dag * bank.load.shape[1] + j
    for p in range(bank.successors.begin[task], bank.successors.begin[task + 1]):
        successor = bank.successors.item[p]
        state.pending[i, successor] -= 1
        state.ready[i, successor] = max(state.ready[i, successor], placement.finish)
    state.next_ready[i] = NEVER
    for k in range(bank.size[decision.dag]):
        if state.pending[i, k] == 0 and state.ready[i, k] < state.next_ready[i]:
            state.next_ready[i], state.next_microservice[i] = state.ready[i, k], k


@compiled
def play(rule: int, bank: Bank, state: State, episodes: Episodes, seed: int) -> tuple[np.ndarray, int]:
    """Play episodes under a rule; returns the ACT of each, s, and the number of decisions in all of them."""
    np.random.seed(seed)
    act, decisions = np.empty(episodes.topology.size, np.float32), 0
    for n in range(act.size):
        episode = begin(bank, episodes, n, state)
        decision = current_decision(bank, episode, state)
        while decision.time < NEVER:
            locate_inputs(bank, episode, state, decision)
            commit(bank, episode, state, decision, place_by_rule(rule, bank, episode, state, decision))
            decision = current_decision(bank, episode, state)
            decisions += 1
        act[n] = state.completion.mean()
    return act, decisions


def make_episodes(topology: np.ndarray, arrivals: np.ndarray, offset: np.ndarray, num_frames: int) -> Episodes:
    """Make episodes of these rows of the banks; offsets are positions in the flattened background."""
    trace, phase = np.divmod(offset, num_frames)
    return Episodes(topology, arrivals, trace.astype(np.uint16), phase.astype(np.uint16))


def draw_episodes(rng: np.random.Generator, count: int, bank: Bank) -> Episodes:
    """Draw rows of the banks uniformly, as a reset does."""
    resources = bank.bandwidth.shape[1] + bank.speed.shape[1]
    topology, arrivals = (rng.integers(0, len(rows), count) for rows in (bank.bandwidth, bank.dag))
    offset = rng.integers(0, bank.offered.size, (count, resources))
    return make_episodes(topology, arrivals, offset, bank.offered.shape[1])
