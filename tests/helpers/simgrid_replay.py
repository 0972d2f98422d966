"""Replay a schedule in SimGrid: read it as JSON from stdin, write SimGrid's finish times as JSON to stdout.

This script needs nothing but SimGrid 3.32, so that the Python which has it (Debian's python3-simgrid) can run it
outside the tests' environment. Input:

    links       [[bandwidth, latency], ...], bytes/s and s; a full-duplex link is two of them, one for each direction
    routes      [[source, target, [link, ...]], ...] between nodes
    hosts       [[speed, [cores of each kind of resource]], ...], flop/s of each core
    microservices   [{node, host, flops, threads, start, flows}, ...]: `threads` of each kind of resource, flows
                    [{source, bytes, rate, start}, ...], none of 0 bytes

In the simulator a flow holds its links while it is sent and then takes their latency to arrive; SimGrid waits for the
latency first and uses the links afterwards, when other flows may have been promised them. Each link is therefore two
in SimGrid: one with the bandwidth, and a fast one with the latency, over which a byte follows the flow.

The input has no finish times. Output: {flows: [[s, ...], ...], executions: [s, ...]}.
"""

import json
import sys

from simgrid import Actor, Comm, Engine, Host, LinkInRoute, Mailbox, NetZone, this_actor

FAST = 1e18  # bytes/s
# The pure fluid model: bandwidth shared max-min fairly, without slow start, windows or acknowledgements. The latency of
# a path is the sum of its links'.
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
    connect(zone, case["routes"], "node", [(bandwidth, 0.0) for bandwidth, _ in case["links"]])
    connect(zone, case["routes"], "latency", [(FAST, latency) for _, latency in case["links"]])
    for h, (speed, cores) in enumerate(case["hosts"]):
        for kind, count in enumerate(cores):
            machine = zone.create_host(f"host {h} {kind}", float(speed))
            machine.core_count = count
            machine.seal()
    zone.seal()


def connect(zone, routes, layer, links):
    """Create a machine for each node, and routes between them over links of given bandwidth and latency."""
    nodes = {node for route in routes for node in route[:2]}
    points = {node: zone.create_host(f"{layer} {node}", 1.0).seal().netpoint for node in sorted(nodes)}
    made = []
    for e, (bandwidth, latency) in enumerate(links):
        link = zone.create_link(f"{layer} link {e}", float(bandwidth))
        link.set_latency(latency)
        made.append(LinkInRoute(link.seal()))
    for source, target, route in routes:
        zone.add_route(points[source], points[target], None, None, [made[e] for e in route], False)


def send(name, flow):
    """Run one flow from its start, at its rate or at the share that the links leave."""
    this_actor.sleep_until(flow["start"])
    Mailbox.by_name(name).put_init("", flow["bytes"]).set_rate(flow["rate"]).wait()


def receive(name, flow, target, finishes, index):
    """Wait for one flow and then for the latency of its path."""
    # A flow starts when both of its ends are ready, and this one is from the beginning.
    Mailbox.by_name(name).get()
    Comm.sendto(Host.by_name(f"latency {flow['source']}"), Host.by_name(f"latency {target}"), 1)
    finishes[index] = Engine.clock


def compute(flops, count):
    """Run `count` concurrent threads on this machine."""
    for thread in [this_actor.exec_async(flops) for _ in range(count)]:
        thread.wait()


def run(name, task, flows, finishes, index):
    """Run one execution after its input has arrived and not before its start, with one thread per core it holds."""
    for flow in flows:
        flow.join()
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
        node, arriving = Host.by_name(f"node {task['node']}"), []
        for j, flow in enumerate(task["flows"]):
            name = f"{i} {j}"
            Actor.create(f"send {name}", Host.by_name(f"node {flow['source']}"), send, name, flow)
            arriving.append(Actor.create(f"receive {name}", node, receive, name, flow, task["node"], flows[i], j))
        Actor.create(f"run {i}", node, run, str(i), task, arriving, executions, i)
    engine.run()
    return {"flows": flows, "executions": executions}


if __name__ == "__main__":
    json.dump(replay(json.load(sys.stdin)), sys.stdout)
