"""Networks of files as plain facts: GraphML, GML, node-link JSON, edge lists in csv and the package TopoHub."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import networkx as nx

from jaxcec.readers.graph_files import Graph, find_graphs, read_graph, shown

_MOST_NODES = 2000
_METRES_PER_SECOND = 2e8  # of light in fibre
_EARTH_RADIUS = 6.371e6  # m
_KINDS = ("cpu", "mem", "gpu")
_FLAGS = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}


class _Quantity(NamedTuple):
    """A number, by the attributes that may say it: the first that a node or link has counts, all are checked."""

    what: str
    units: dict[str, float]  # of each attribute: the size of the quantity's unit in that of the attribute
    least: float = 1e-6  # of a number that is not 0: products with others stay within float32's range
    most: float = 1e15
    zero: bool = True  # whether it may be 0


_BANDWIDTH = _Quantity("links with a bandwidth", {"bandwidth": 1.0, "LinkSpeedRaw": 1e6, "capacity": 1.0}, zero=False)
_UP, _DOWN = (_Quantity("links with a bandwidth", {name: 1.0}, zero=False) for name in ("up", "down"))
_LATENCY = _Quantity(
    "links with a latency",
    {"latency": 1.0, "latency_ms": 1e3, "delay_ms": 1e3, "length": 2e5, "dist": 2e5, "distance": 2e5},
    least=0.0,
)
_SPEED = _Quantity("nodes with a speed", {"speed": 1.0})
_DEVICE_SPEED = _Quantity("nodes with a device speed", {"device_speed": 1.0})
_NORTH = _Quantity("nodes with a place", {"Latitude": 1.0, "lat": 1.0}, least=-90.0, most=90.0)
_EAST = _Quantity("nodes with a place", {"Longitude": 1.0, "lon": 1.0}, least=-360.0, most=360.0)


def _any_of(*names: str | _Quantity) -> re.Pattern[str]:
    """Return a pattern of the names of attributes in lower case."""
    return re.compile("|".join("|".join([name] if isinstance(name, str) else name.units) for name in names).lower())


# The attributes that are used, or tell nodes and edges apart.
_OF_LINKS = _any_of(_BANDWIDTH, _UP, _DOWN, _LATENCY, "id|key")
_OF_NODES = _any_of(_SPEED, _DEVICE_SPEED, _NORTH, _EAST, *_KINDS, "capacity_.+|router|internal|label|name|id")


class FileLink(NamedTuple):
    """A link between two nodes, as far as the file describes it."""

    a: int  # index into `NetworkFile.nodes`, the lower one
    b: int
    bandwidth: float | None  # Mbit/s, from a to b; in both directions together if there is no `back`; None: not said
    back: float | None  # Mbit/s, from b to a, if the file gives the directions apart
    latency: float | None  # s; None: not said


@dataclasses.dataclass(frozen=True)
class NetworkFile:
    """What a file says of a network: V nodes and their links, which connect them all."""

    name: str  # of the file without its suffix, or of TopoHub
    nodes: tuple[str, ...]  # unique names, in the file's order
    links: tuple[FileLink, ...]  # by (a, b); at most one of a pair, none from a node to itself
    node_speed: tuple[float | None, ...]  # Mcycles/s; 0 of a router; None: not said
    device_speed: tuple[float | None, ...]  # Mcycles/s, of the attached end device
    capacity: dict[str, tuple[float | None, ...]]  # units of each kind of resource that the file names
    notes: tuple[str, ...]  # what was taken, left out or changed, and how often
    digest: bytes  # hash of all the above but the name and the notes


class _Node(NamedTuple):
    speed: float | None
    device_speed: float | None
    capacity: dict[str, float]
    place: tuple[float, float] | None  # degrees north and east


class _Edge(NamedTuple):
    rates: tuple[float | None, float | None]  # Mbit/s, from the lower node to the other, and back
    latency: float | None  # s
    shared: bool  # whether the first rate is that of both directions together
    reverse: bool  # whether it leads from the other node to the lower, in a directed graph


def read_networks(source: str, *, largest_part: bool = False) -> list[NetworkFile]:
    """Read all networks of a source.

    Args:
        source: a file `.graphml`, `.gml`, `.json` (node-link) or `.csv` (edge list with a header); a folder or a
            pattern of files (`zoo/*.gml`), of which those with other suffixes are left out; or `topohub:` and a name
            (`topohub:sndlib/polska`), a group (`topohub:sndlib`) or a pattern of names. An edge list in which every row
            has a row of the opposite direction is read as a directed graph.
        largest_part: of a network in several parts, keep that of most nodes, among equals that of the first node.

    Returns:
        The networks, sorted by path or name.

    Raises:
        ImportError: TopoHub is not installed.
        ValueError: nothing is found, or a network cannot be read. The message gives the file or name, the node or link
            and the attribute, the value and what is allowed.
    """
    networks = []
    for place, (name, path) in find_graphs(source).items():
        try:
            networks.append(_facts(name, read_graph(path), largest_part=largest_part))
        except Exception as error:  # networkx's parsers let through whatever a damaged file makes them stumble over
            own = type(error) is ValueError
            said = f"{error}" if own else f"not a network that can be read; {type(error).__name__}: {error}"
            raise ValueError(f"{place}: {said}") from error
    return networks


def network_graph(network: NetworkFile) -> nx.Graph:
    """Return a network as a graph that networkx writes as GraphML, of which `read_networks` reads the same facts."""
    graph = nx.Graph()
    for i, name in enumerate(network.nodes):
        said = {"speed": network.node_speed[i], "device_speed": network.device_speed[i]}
        said |= {f"capacity_{kind}": units[i] for kind, units in network.capacity.items()}
        graph.add_node(i, label=name, **{key: value for key, value in said.items() if value is not None})
    for link in network.links:
        one_way = link.back is not None
        rates = {"up": link.bandwidth, "down": link.back} if one_way else {"bandwidth": link.bandwidth}
        said = rates | {"latency": link.latency}
        graph.add_edge(link.a, link.b, **{key: value for key, value in said.items() if value is not None})
    return graph


def _facts(name: str, read: Graph, *, largest_part: bool) -> NetworkFile:
    tally: Counter[str] = Counter()  # how often each thing was taken, left out or changed
    graph = _connected(read.edges, tally, largest_part=largest_part)
    said = {node: _fields(data, _OF_NODES, where=f"node {node}") for node, data in graph.nodes(data=True)}
    names = _names(said, tally)
    nodes = [_node(fields, tally, where=f"node {each}") for each, fields in zip(names, said.values(), strict=True)]
    index = {node: i for i, node in enumerate(graph)}
    edges: dict[tuple[int, int], list[_Edge]] = defaultdict(list)
    for source, target, data in graph.edges(data=True):
        a, b = index[source], index[target]
        where = f"link {names[a]} - {names[b]}"
        fields = _fields(data, _OF_LINKS, where=where)
        latency = _latency(fields, tally, places=(nodes[a].place, nodes[b].place), where=where)
        edge = _edge(fields, tally, directed=read.directed, swap=a > b, where=where)
        edges[min(a, b), max(a, b)].append(edge._replace(latency=latency))
    links = [
        FileLink(a, b, *_merged(edges[a, b], tally, directed=read.directed, where=f"link {names[a]} - {names[b]}"))
        for a, b in sorted(edges)
    ]
    speed, device_speed = tuple(node.speed for node in nodes), tuple(node.device_speed for node in nodes)
    kinds = sorted({kind for node in nodes for kind in node.capacity})
    capacity = {kind: tuple(node.capacity.get(kind) for node in nodes) for kind in kinds}
    facts = (tuple(names), tuple(links), speed, device_speed, capacity)
    notes = (*(f"{what}: {count}" for what, count in tally.items()), *_unused(graph))
    # ascii() writes floats exactly, and does not depend on the Unicode tables of the Python version.
    content = ascii((facts[0], [tuple(link) for link in links], *facts[2:])).encode()
    return NetworkFile(name, *facts, notes, hashlib.blake2b(content, digest_size=16).digest())


def _connected(graph: nx.MultiDiGraph, tally: Counter[str], *, largest_part: bool) -> nx.MultiDiGraph:
    """Return the graph without self-loops; raise ValueError unless it is in one part, or its largest is asked for."""
    if not graph:
        raise ValueError("nodes: got none; must be at least one")
    parts = list(nx.weakly_connected_components(graph))
    largest = max(parts, key=len)  # the first of several: the parts come in the order of their first nodes
    if len(parts) > 1 and not largest_part:
        raise ValueError(
            f"links: the network is in {len(parts)} parts, the largest of {len(largest)} of its {len(graph)} nodes; "
            "must be connected, or --scenario.largest-part keeps the largest part"
        )
    if len(largest) > _MOST_NODES:
        raise ValueError(f"nodes: got {len(largest):,}; must be at most {_MOST_NODES:,}, for all pairs get a route")
    _count(tally, "nodes outside the largest part, left out", len(graph) - len(largest))
    graph.remove_nodes_from(set(graph) - largest)
    loops = list(nx.selfloop_edges(graph, keys=True))
    _count(tally, "links from a node to itself, left out", len(loops))
    graph.remove_edges_from(loops)
    return graph


def _count(tally: Counter[str], what: str, count: int = 1) -> None:
    """Add to a tally, which has no zeros."""
    if count:
        tally[what] += count


def _fields(data: Mapping[Any, Any], used: re.Pattern[str], *, where: str) -> dict[str, Any]:
    """Return the attributes that are used and not empty, by lower-case name."""
    fields: dict[str, Any] = {}
    for name, value in data.items():
        lower = str(name).lower()
        if used.fullmatch(lower) and value is not None and str(value).strip():
            if lower in fields:
                raise ValueError(f"{where}, {lower}: occurs in several spellings; must occur once")
            fields[lower] = value
    return fields


def _unused(graph: nx.MultiDiGraph) -> list[str]:
    """Return a note of the attributes that have no meaning here."""
    elements = [(_OF_NODES, "nodes", graph.nodes(data=True)), (_OF_LINKS, "links", graph.edges(data=True))]
    names = [
        f"{name} of {what}"
        for used, what, all_of_them in elements
        for name in sorted({str(name) for *_, data in all_of_them for name in data})
        if not used.fullmatch(name.lower())
    ]
    return [f"attributes not used: {', '.join(names)}"] if names else []


def _names(said: Mapping[Any, Mapping[str, Any]], tally: Counter[str]) -> list[str]:
    """Return the nodes' labels, or names, or ids; to a label of several nodes, their ids are added."""
    labels = [str(fields.get("label", fields.get("name", node))).strip() for node, fields in said.items()]
    count = Counter(labels)
    _count(tally, "nodes of the same label, told apart by their ids", sum(n for n in count.values() if n > 1))
    names = [label if count[label] == 1 else f"{label} ({node})" for label, node in zip(labels, said, strict=True)]
    for name, times in Counter(names).items():
        if times > 1:
            raise ValueError(f"node {name}: the name occurs {times} times; must be unique")
    return names


def _node(fields: Mapping[str, Any], tally: Counter[str], *, where: str) -> _Node:
    speed, device_speed = (_said(fields, quantity, tally, where=where) for quantity in (_SPEED, _DEVICE_SPEED))
    north, east = (_said(fields, quantity, Counter(), where=where) for quantity in (_NORTH, _EAST))
    capacity: dict[str, float] = {}
    kinds = {name.removeprefix("capacity_") for name in fields if name in _KINDS or name.startswith("capacity_")}
    for kind in sorted(kinds):
        names = ([kind] if kind in _KINDS else []) + [f"capacity_{kind}"]  # `capacity_speed` must not read `speed`
        units = _said(fields, _Quantity(f"nodes with {kind}", dict.fromkeys(names, 1.0)), tally, where=where)
        if units is not None:
            capacity[kind] = units
    if _flag(fields, "router", where=where) or _flag(fields, "internal", where=where) is False:
        _count(tally, "routers, which run nothing")
        speed = 0.0
    return _Node(speed, device_speed, capacity, None if north is None or east is None else (north, east))


def _edge(fields: Mapping[str, Any], tally: Counter[str], *, directed: bool, swap: bool, where: str) -> _Edge:
    """Return an edge without its latency; `swap` if it leads from the higher node to the lower."""
    up, down = (_said(fields, quantity, tally, where=where) for quantity in (_UP, _DOWN))
    if (up is None) != (down is None):
        raise ValueError(f"{where}, {'up' if up is None else 'down'}: got none; must be given with the other direction")
    rate = _said(fields, _BANDWIDTH, tally if up is None else Counter(), where=where)
    rates = (rate, None) if up is None else (up, down)
    shared = up is None and not directed
    return _Edge(rates[::-1] if swap and not shared else rates, None, shared, swap and directed)


def _merged(
    edges: Sequence[_Edge], tally: Counter[str], *, directed: bool, where: str
) -> tuple[float | None, float | None, float | None]:
    """Return bandwidth, back and latency of the link that stands for all edges between two nodes."""
    said = [edge for edge in edges if edge.rates != (None, None)]
    if len({edge.shared for edge in said}) > 1:
        raise ValueError(f"{where}: some of its parallel links have up and down, others a bandwidth; must be the same")
    sums = [math.fsum(edge.rates[way] or 0.0 for edge in said) for way in (0, 1)]
    rates = [rate for rate in sums if rate > 0.0]
    ways = len({edge.reverse for edge in edges})
    if len(edges) > ways:
        _count(tally, "parallel links, made one of their total bandwidth and least latency", len(edges))
        if said:
            _count(tally, "parallel links without a bandwidth, left out of the total", len(edges) - len(said))
    if directed and len(rates) < 2:
        _count(tally, "links that lead one way only, taken for both directions", ways == 1)
        _count(tally, "links with the bandwidth of one direction only, taken for both", ways == 2 and len(rates))
    latency = min((edge.latency for edge in edges if edge.latency is not None), default=None)
    return rates[0] if rates else None, rates[1] if len(rates) == 2 else None, latency


def _latency(fields: Mapping[str, Any], tally: Counter[str], *, places: Sequence[Any], where: str) -> float | None:
    """Return the latency in s that is said, or follows from a length, or from the places of the two ends."""
    said = _said(fields, _LATENCY, tally, where=where)
    if said is not None or None in places:
        return said
    _count(tally, "links with a latency from the places of their ends")
    (north_a, east_a), (north_b, east_b) = ([math.radians(degrees) for degrees in place] for place in places)
    across = math.cos(north_a) * math.cos(north_b) * math.sin((east_b - east_a) / 2) ** 2
    half = math.asin(min(1.0, math.sqrt(math.sin((north_b - north_a) / 2) ** 2 + across)))
    # To the microsecond: the last digits of sines depend on the platform, and the digest must not.
    return round(2 * half * _EARTH_RADIUS / _METRES_PER_SECOND, 6)


def _said(fields: Mapping[str, Any], quantity: _Quantity, tally: Counter[str], *, where: str) -> float | None:
    """Return a quantity in its unit; None if no attribute says it."""
    found = None
    for name, unit in quantity.units.items():
        if name.lower() in fields:
            number = _number(fields[name.lower()], quantity, unit=unit, where=f"{where}, {name}")
            if found is None:
                found = number / unit
                _count(tally, f"{quantity.what} from {name}")
    return found


def _number(value: Any, quantity: _Quantity, *, unit: float, where: str) -> float:
    """Return an attribute's number in its own unit."""
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(value, str):  # Python also reads digits of other scripts, and underscores between digits
        plain = value.isascii() and "_" not in value
    try:
        number = float(value) if plain else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    least = quantity.least * unit
    if not (least <= number <= quantity.most or (quantity.zero and number == 0.0)):
        allowed = f"{'0 or ' if quantity.zero and least > 0.0 else ''}from {least:g} to {quantity.most:g}"
        raise ValueError(f"{where}: got {shown(value)}; must be a number, {allowed}")
    return number + 0.0  # not -0.0


def _flag(fields: Mapping[str, Any], name: str, *, where: str) -> bool | None:
    """Return whether an attribute is true; None if it is not said."""
    if name not in fields:
        return None
    flag = _FLAGS.get(str(fields[name]).strip().lower())
    if flag is None:
        raise ValueError(f"{where}, {name}: got {shown(fields[name])}; must be true, false, 1 or 0")
    return flag
