"""A network of edge nodes on one Linux machine: a network namespace for each node, and links of given bandwidth.

Each link joins two nodes through a namespace of their own, the wires, where a bridge passes packets on and an `ifb`
device with an HTB queue bounds their rate. Both directions of a half-duplex link go through the same queue, and each
direction of a full-duplex one through its own. Routes are static and those of the simulator: they depend on both ends,
so every node has a table for each node that packets come from. A further interface joins each node to the machine
itself, for the controller.

One machine has at most one such network, whose names are fixed: what a killed process has left is found again.
Latencies are not emulated, which would need a queue that not every kernel has.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from jaxcec.env.routing import Link, routes
from jaxcec.live.cgroups import Group, may_bound

PREFIX = "jaxcec"  # of the namespaces
GROUPS = ("jaxcec", "jaxcec-lab")  # control groups of everything that runs in the network, and of who uses it
FILES = Path("/dev/shm/jaxcec-lab")  # in memory: the delays of a disk would count as often as time passes faster
PORT = 7070  # of the workers
MOST_NODES = 100
_WIRES = f"{PREFIX}-wires"
_MACHINE = "198.18.255.1"  # a block of addresses for benchmarks, RFC 2544
_HEADERS, _ACKNOWLEDGEMENTS = 0.046, 0.023  # bytes on the wire for each byte of data, in packets of 1500 bytes
YIELDING = 0x20  # type of service of packets that others go before
_LEAST_SHARE = 0.02  # of a link, which these have in any case
_BURST = 4000  # bytes that a link sends at once after it was idle
_PATIENCE = 10.0  # s for an interface to come up
_TIMEOUT = "40ms"  # least of TCP: its 200 ms would be four seconds at a pace of 20
_TABLE = 100  # the routing table of the first node that packets come from
_NET_ADMIN, _SYS_ADMIN = 12, 21  # bits of capabilities


class LabUnavailable(OSError):
    """This machine or user cannot have a lab; the message says why."""


def check_available() -> None:
    """Check that networks can be made here.

    Raises:
        LabUnavailable: they cannot.
    """
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    effective = next((int(line.split()[1], 16) for line in lines if line.startswith("CapEff")), 0)
    if not (effective >> _NET_ADMIN & 1 and effective >> _SYS_ADMIN & 1):
        raise LabUnavailable("the lab needs Linux and the capabilities CAP_NET_ADMIN and CAP_SYS_ADMIN: run it as root")
    missing = [program for program in ("ip", "tc", "nsenter") if shutil.which(program) is None]
    if missing:
        raise LabUnavailable(f"the lab needs {', '.join(missing)}: install iproute2 and util-linux")
    if not may_bound():
        raise LabUnavailable("the lab needs control groups that bound processor time, writable in /sys/fs/cgroup")


def address(node: int) -> str:
    """The address of a node."""
    return f"198.18.0.{node + 1}"


def namespace(node: int) -> str:
    """The network namespace of a node."""
    return f"{PREFIX}-{node}"


def inside(node: int, *program: str) -> list[str]:
    """The words that start a program in a node's network."""
    return ["nsenter", f"--net=/run/netns/{namespace(node)}", *program]


def interfaces(node: int, links: Sequence[Link]) -> dict[int, str]:
    """The node's network interface of each of its links, by the link's position."""
    return {i: f"link{i}" for i, link in enumerate(links) if node in link[:2]}


def build(links: Sequence[Link], num_nodes: int) -> None:
    """Make the network; nothing of an earlier one may be left.

    Raises:
        ValueError: there are too many nodes, a link has a latency, or the nodes are not connected.
        LabUnavailable: the system refuses.
    """
    if num_nodes > MOST_NODES:
        raise ValueError(f"nodes: got {num_nodes}; the lab has at most {MOST_NODES}")
    late = [link for link in links if link.latency]
    if late:
        raise ValueError(f"links: got a latency of {late[0].latency} s; the lab emulates none, so it must be 0")
    spaces = [_WIRES, *map(namespace, range(num_nodes))]
    _batch(["ip"], [f"netns add {name}" for name in spaces])
    _batch(
        ["ip"],
        [
            f"link add {namespace(node)} type veth peer name control netns {namespace(node)}"
            for node in range(num_nodes)
        ],
    )
    for node in range(num_nodes):
        _batch(["ip", "-n", namespace(node)], _node_lines(node))
    _connect_machine(num_nodes)
    for i, link in enumerate(links):
        _batch(["ip"], [_veth(f"link{i}", namespace(end), f"w{i}.{end}", _WIRES) for end in link[:2]])
        for end in link[:2]:
            _batch(["ip", "-n", namespace(end)], _interface_lines(f"link{i}"))
        _batch(["ip", "-n", _WIRES], _bridge_lines(i, link))
        _batch(["tc", "-n", _WIRES], _queue_lines(i, link))
    for node in range(num_nodes):
        _forward(node)
    for node, lines in _route_lines(links, num_nodes).items():
        _batch(["ip", "-n", namespace(node)], lines)
    for name in spaces:
        _await_up(name)


def _await_up(space: str) -> None:
    """Wait until all interfaces of a namespace carry packets: the kernel sets some of them up a second late."""
    until = time.monotonic() + _PATIENCE
    while any(link["operstate"] == "DOWN" for link in _interfaces_of(space)):
        if time.monotonic() > until:
            raise LabUnavailable(f"namespace {space}: its interfaces do not come up")
        time.sleep(0.05)


def _interfaces_of(space: str) -> list[dict[str, str]]:
    """What `ip` says of the interfaces of a namespace, without its loopback."""
    return [link for link in json.loads(_run(["ip", "-n", space, "-j", "link"])) if link["ifname"] != "lo"]


def remove() -> None:
    """Remove the network and its files and end all processes in it; what does not exist is skipped."""
    if may_bound():
        for name in GROUPS:
            Group(name).remove()
    for name in _existing("link"):  # they would end with their other ends, but later
        _run(["ip", "link", "del", name])
    for name in _existing("netns"):
        _run(["ip", "netns", "del", name])
    shutil.rmtree(FILES, ignore_errors=True)


def left_over() -> list[str]:
    """What exists of a network, by name."""
    groups = [f"control group {name}" for name in GROUPS if Group(name).exists()]
    spaces = [f"namespace {name}" for name in _existing("netns")]
    ends = [f"interface {name}" for name in _existing("link")]
    return [*spaces, *ends, *groups, *[f"folder {FILES}"] * FILES.exists()]


def _existing(kind: str) -> list[str]:
    """The namespaces, or the machine's interfaces (`link`), of a network."""
    field, command = ("name", "list") if kind == "netns" else ("ifname", "show")
    found = json.loads(_run(["ip", "-j", kind, command]) or "[]")
    return sorted(entry[field] for entry in found if entry[field].startswith(f"{PREFIX}-"))


def _node_lines(node: int) -> list[str]:
    """The node's address, which is on no link, and its way to the machine."""
    return [
        "link set lo up",
        f"addr add {address(node)}/32 dev lo",
        "link set control up",
        f"route add {_MACHINE} dev control src {address(node)}",
    ]


def _veth(name: str, space: str, peer: str, peer_space: str) -> str:
    return f"link add {name} netns {space} type veth peer name {peer} netns {peer_space}"


def _interface_lines(name: str) -> list[str]:
    """Packets leave one by one: a batch of them would wait in the queue as one."""
    return [f"link set {name} gso_max_segs 1", f"link set {name} up"]


def _bridge_lines(i: int, link: Link) -> list[str]:
    bridge, queues = f"bridge{i}", _queues(i, link)
    lines = [f"link add name {bridge} type bridge", f"link set {bridge} up"]
    for end in link[:2]:
        lines += [f"link set w{i}.{end} master {bridge}", f"link set w{i}.{end} up"]
    for queue in dict.fromkeys(name for name, _ in queues.values()):
        lines += [f"link add name {queue} type ifb", f"link set {queue} txqueuelen 100", f"link set {queue} up"]
    return lines


def _queues(i: int, link: Link) -> dict[int, tuple[str, float]]:
    """The queue of what each end sends, and its rate in Mbit/s, which is that of the data and of what comes with it."""
    if link.back is None:
        rate = link.bandwidth * (1 + _HEADERS + _ACKNOWLEDGEMENTS)
        return {end: (f"queue{i}", rate) for end in link[:2]}
    rates = {link.a: (link.bandwidth, link.back), link.b: (link.back, link.bandwidth)}
    return {
        end: (f"queue{i}.{end}", rate * (1 + _HEADERS) + opposite * _ACKNOWLEDGEMENTS)
        for end, (rate, opposite) in rates.items()
    }


def _queue_lines(i: int, link: Link) -> list[str]:
    lines = []
    queues = _queues(i, link)
    for queue, rate in dict.fromkeys(queues.values()):
        whole, little = round(rate * 1000), max(round(rate * 1000 * _LEAST_SHARE), 1)
        limits = f"ceil {whole}kbit burst {_BURST} cburst {_BURST} quantum 1514"
        lines += [
            f"qdisc add dev {queue} root handle 1: htb default 10",
            f"class add dev {queue} parent 1: classid 1:1 htb rate {whole}kbit {limits}",
            f"class add dev {queue} parent 1:1 classid 1:10 htb rate {whole - little}kbit {limits} prio 0",
            f"class add dev {queue} parent 1:1 classid 1:20 htb rate {little}kbit {limits} prio 1",
            f"filter add dev {queue} parent 1: protocol ip u32 match ip tos {YIELDING:#x} 0xff flowid 1:20",
        ]
    for end, (queue, _) in queues.items():
        port = f"w{i}.{end}"
        redirect = f"action mirred egress redirect dev {queue}"
        lines += [
            f"qdisc add dev {port} ingress",
            f"filter add dev {port} parent ffff: protocol all u32 match u32 0 0 {redirect}",
        ]
    return lines


def _forward(node: int) -> None:
    """Let a node forward packets, whichever way they come from."""
    settings = ["ip_forward=1", "conf/all/rp_filter=0", "conf/default/rp_filter=0"]
    settings += [f"conf/{name}/rp_filter=0" for name in ("lo", "control")]
    for name, value in (setting.split("=") for setting in settings):
        _run(inside(node, "tee", f"/proc/sys/net/ipv4/{name}"), value)


def _route_lines(links: Sequence[Link], num_nodes: int) -> dict[int, list[str]]:
    """Of each node, where to send what comes from a node and goes to another."""
    lines: dict[int, list[str]] = {
        node: [f"rule add from {address(start)} lookup {_TABLE + start}" for start in range(num_nodes)]
        for node in range(num_nodes)
    }
    position = {end: i for i, link in enumerate(links) for end in (link[:2], link[1::-1])}
    for (start, target), path in paths(links, num_nodes).items():
        for node, following in pairwise(path):
            way = f"via {address(following)} dev link{position[node, following]} onlink"
            lines[node].append(f"route add {address(target)}/32 {way} table {_TABLE + start} rto_min {_TIMEOUT}")
    return lines


def paths(links: Sequence[Link], num_nodes: int) -> dict[tuple[int, int], list[int]]:
    """The nodes on the simulator's path between every two."""
    count = sum(1 if link.back is None else 2 for link in links)
    route = routes(links, num_nodes, max(count, 1))[0]
    ends: dict[tuple[int, int], int] = {}  # the link resource from a node to a neighbour
    for link in links:
        first = max(ends.values(), default=-1) + 1
        ends[link.a, link.b], ends[link.b, link.a] = first, first + (link.back is not None)
    found = {}
    for start, target in ((a, b) for a in range(num_nodes) for b in range(num_nodes) if a != b):
        left, path = set(np.flatnonzero(route[start, target]).tolist()), [start]
        while left:
            step = next((b, e) for (a, b), e in ends.items() if a == path[-1] and e in left)
            path.append(step[0])
            left.remove(step[1])
        found[start, target] = path
    return found


def _connect_machine(num_nodes: int) -> None:
    """Give the machine its way to each node."""
    lines = [f"addr add {_MACHINE}/32 dev {namespace(0)}"]
    for node in range(num_nodes):
        lines += [
            f"link set {namespace(node)} up",
            f"route add {address(node)}/32 dev {namespace(node)} src {_MACHINE}",
        ]
    _batch(["ip"], lines)


def _batch(program: list[str], lines: Iterable[str]) -> None:
    """Run lines of `ip` or `tc` in one process."""
    _run([*program, "-batch", "-"], "\n".join(lines) + "\n")


def _run(words: list[str], text: str = "") -> str:
    done = subprocess.run(words, input=text, capture_output=True, text=True)
    if done.returncode:
        raise LabUnavailable(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.stdout
