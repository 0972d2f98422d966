"""Replay a schedule in SimGrid: read it as JSON from stdin, write SimGrid's finish times as JSON to stdout.

This script needs nothing but SimGrid 3.32, so that the Python which has it (Debian's python3-simgrid) can run it
outside the tests' environment. Input:

    links       [bandwidth, ...], bytes/s
    routes      [[source, target, [link, ...]], ...] between nodes
    hosts       [[speed, [cores of each kind of resource]], ...], flop/s of each core
    microservices   [{node, host, flops, threads, start, flows}, ...]: `threads` of each kind of resource, flows
                    [{source, bytes, rate, start}, ...]

The input has no finish times. Output: {flows: [[s, ...], ...], executions: [s, ...]}.
"""

import json
import sys

from simgrid import Actor, Engine, Host, LinkInRoute, Mailbox, NetZone, this_actor

# The pure fluid model: bandwidth shared max-min fairly, without latency, slow start, windows or acknowledgements.
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
    """Create nodes and routes, and for each host and kind of resource a machine with its number of cores."""
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
    """Run one flow from its start, at its rate or at the share that the links leave."""
    this_actor.sleep_until(flow["start"])
    Mailbox.by_name(name).put_init("", flow["bytes"]).set_rate(flow["rate"]).wait()
    finishes[index] = Engine.clock


def compute(flops, count):
    """Run `count` concurrent threads on this machine."""
    for thread in [this_actor.exec_async(flops) for _ in range(count)]:
        thread.wait()


def run(name, task, finishes, index):
    """Run one execution after its input has arrived and not before its start, with one thread per core it holds."""
    # All receives are posted at the beginning, because a flow starts when both of its ends are ready.
    expected = [Mailbox.by_name(name).get_async() for _ in task["flows"]]
    for flow, _ in expected:
        flow.wait()
    this_actor.sleep_until(task["start"])
    machines = [Host.by_name(f"host {task['host']} {kind}") for kind in range(len(task["threads"]))]
    # An actor that migrates takes its threads with it, so every machine has a separate actor.
    actors = [
        Actor.create(f"compute {name}", machine, compute, task["flops"], count)
        for machine, count in zip(machines, task["threads"], strict=True)
    ]
    for actor in actors:
        actor.join()
    finishes[index] = Engine.clock


def replay(case):
    """Finish times of all flows and executions, s."""
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
