"""Replays a schedule in SimGrid: reads it as JSON from stdin, writes when SimGrid finishes what as JSON to stdout.

Needs nothing but SimGrid 3.32, so that the Python that has it (Debian's python3-simgrid) can run it apart from the
tests' own. What comes in:

    links       [bandwidth, ...], bytes/s
    routes      [[source, target, [link, ...]], ...] between nodes
    hosts       [[speed, [cores of each kind of resource]], ...], flop/s of each core
    microservices   [{node, host, flops, threads, start, flows}, ...]: `threads` of each kind of resource, flows
                    [{source, bytes, rate, start}, ...]

Nothing says when anything ends: that comes out, {flows: [[s, ...], ...], executions: [s, ...]}.
"""

import json
import sys

from simgrid import Actor, Engine, Host, LinkInRoute, Mailbox, NetZone, this_actor

# The fluid model alone: bandwidth shared max-min fairly, without latency, slow start, windows or acknowledgements.
FLUID = [
    "network/model:CM02",
    "network/bandwidth-factor:1",
    "network/latency-factor:1",
    "network/weight-S:0",
    "network/TCP-gamma:0",
    "network/crosstraffic:0",
    "surf/precision:1e-9",
]


def build(zone, case):
    """Nodes with the routes between them, and for each host and kind of resource a machine with that many cores."""
    nodes = {node for route in case["routes"] for node in route[:2]}
    points = {node: zone.create_host(f"node {node}", 1.0).seal().netpoint for node in sorted(nodes)}
    links = [
        LinkInRoute(zone.create_link(f"link {e}", float(bandwidth)).seal()) for e, bandwidth in enumerate(case["links"])
    ]
    for source, target, route in case["routes"]:
        zone.add_route(points[source], points[target], None, None, [links[e] for e in route], False)
    for h, (speed, cores) in enumerate(case["hosts"]):
        for kind, count in enumerate(cores):
            machine = zone.create_host(f"host {h} {kind}", float(speed))
            machine.core_count = count
            machine.seal()
    zone.seal()


def send(name, flow, finishes, index):
    """One flow: from its start on, at its rate or at what the links leave of it."""
    this_actor.sleep_until(flow["start"])
    Mailbox.by_name(name).put_init("", flow["bytes"]).set_rate(flow["rate"]).wait()
    finishes[index] = Engine.clock


def compute(flops, count):
    """So many threads at once, here."""
    for thread in [this_actor.exec_async(flops) for _ in range(count)]:
        thread.wait()


def run(name, task, finishes, index):
    """Once its input has come, and not before its start: as many threads as it takes cores, of all its flops each."""
    # All are expected from the first moment on: a flow begins when both its ends are there.
    expected = [Mailbox.by_name(name).get_async() for _ in task["flows"]]
    for flow, _ in expected:
        flow.wait()
    this_actor.sleep_until(task["start"])
    machines = [Host.by_name(f"host {task['host']} {kind}") for kind in range(len(task["threads"]))]
    # An actor that moves takes its threads along: each machine has its own.
    actors = [
        Actor.create(f"compute {name}", machine, compute, task["flops"], count)
        for machine, count in zip(machines, task["threads"], strict=True)
    ]
    for actor in actors:
        actor.join()
    finishes[index] = Engine.clock


def replay(case):
    """Finishes of all flows and executions, s."""
    engine = Engine(["replay", "--log=root.thresh:warning", *(f"--cfg={setting}" for setting in FLUID)])
    build(NetZone.create_full_zone("network"), case)
    tasks = case["microservices"]
    executions = [None] * len(tasks)
    flows = [[None] * len(task["flows"]) for task in tasks]
    for i, task in enumerate(tasks):
        Actor.create(f"run {i}", Host.by_name(f"node {task['node']}"), run, str(i), task, executions, i)
        for j, flow in enumerate(task["flows"]):
            Actor.create(f"send {i} {j}", Host.by_name(f"node {flow['source']}"), send, str(i), flow, flows[i], j)
    engine.run()
    return {"flows": flows, "executions": executions}


if __name__ == "__main__":
    json.dump(replay(json.load(sys.stdin)), sys.stdout)
