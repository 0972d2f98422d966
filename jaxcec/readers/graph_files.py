"""Finds the files of networks and reads their graphs: GraphML, GML, node-link JSON and edge lists in csv."""

from __future__ import annotations

import codecs
import csv
import fnmatch
import glob
import io
import json
import os
import re
import warnings
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import networkx as nx

_TOPOHUB = "topohub:"
_LARGEST_FILE = 500_000_000  # bytes
_ENDS = (("source", "target"), ("a", "b"), ("from", "to"), ("node1", "node2"), ("u", "v"))  # columns of an edge list


class Graph(NamedTuple):
    """A file's graph, with the attributes of its nodes and edges as they are in the file."""

    edges: nx.MultiDiGraph  # every edge leads from the first of its ends in the file to the second
    directed: bool  # whether the file says so, too


def find_graphs(source: str) -> dict[str, tuple[str, Path]]:
    """Return the name and the file of every network of a source, by what errors are to call it.

    Args:
        source: see `jaxcec.readers.network_files.read_networks`.

    Raises:
        ImportError: TopoHub is not installed.
        ValueError: there is none.
    """
    if source.startswith(_TOPOHUB):
        return _from_topohub(source.removeprefix(_TOPOHUB))
    if os.path.isfile(source):
        found = [Path(source)]
    else:
        pattern = os.path.join(glob.escape(source), "*") if os.path.isdir(source) else source
        paths = map(Path, glob.glob(pattern, recursive=True))
        found = sorted(path for path in paths if path.suffix.lower() in _FORMATS and path.is_file())
    if not found:
        raise ValueError(f"{source}: no network; expected a {_suffixes()} file, or a folder or a pattern of such files")
    return {str(path): (path.stem, path) for path in found}


def _from_topohub(pattern: str) -> dict[str, tuple[str, Path]]:
    """Return TopoHub's topologies of a name, a group or a pattern of names."""
    try:
        import topohub
    except ImportError as error:
        raise ImportError("networks of TopoHub need the package topohub: pip install 'jaxcec[data]'") from error
    folder = Path(topohub.__file__).parent / "data"  # there is no list of the names but the files
    keys = sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.json"))
    found = fnmatch.filter(keys, pattern) or fnmatch.filter(keys, f"{pattern.rstrip('/')}/*")
    if not found:
        like = [key for key in keys if pattern and pattern.lower() in key.lower()][:5]
        groups = sorted({key.partition("/")[0] for key in keys})
        expected = f"like {', '.join(like)}" if like else f"or a group of {', '.join(groups)}"
        raise ValueError(f"{_TOPOHUB}{pattern}: no such topology; expected a name {expected}")
    return {_TOPOHUB + key: (key, folder / f"{key}.json") for key in found}


def read_graph(path: Path) -> Graph:
    """Read the graph of a file.

    Raises:
        ValueError: the file is too large, empty or of no known suffix, its nodes are not unique, or a link has no end.
        Exception: any, from the parser of the format, if the file is damaged.
    """
    read = _FORMATS.get(path.suffix.lower())
    if read is None:
        raise ValueError(f"suffix: got {path.suffix!r}; must be {_suffixes()}")
    size = path.stat().st_size
    if size > _LARGEST_FILE:
        raise ValueError(f"got {size:,} bytes; must be at most {_LARGEST_FILE:,}")
    content = path.read_bytes()
    if not content.strip():
        raise ValueError("empty; expected a network")
    return read(content)


def _graphml(content: bytes) -> Graph:
    declared = re.match(rb"<\?xml[^>]*encoding=[\"']([\w.-]+)", content.removeprefix(codecs.BOM_UTF8))
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = content.decode("utf-16" if wide else declared[1].decode() if declared else "utf-8")
    # Entities may stand for gigabytes of text. They are declared in a DOCTYPE, which no network needs.
    for word in ("<!DOCTYPE", "<!ENTITY"):
        if word in text:
            raise ValueError(f"got {word}; must be without document types and entities")
    root = ET.fromstring(text)
    graphs = root.findall(".//{*}graph")
    if len(graphs) != 1:
        raise ValueError(f"graph: got {len(graphs)}; must be one, without graphs in its nodes")
    directed = graphs[0].get("edgedefault") == "directed"
    graphs[0].set("edgedefault", "directed")
    for key in root.iterfind(".//{*}key"):
        key.set("attr.type", "string")  # so that networkx converts nothing and errors can tell the node or link
    edges = graphs[0].findall("{*}edge")
    for i, edge in enumerate(edges):
        if edge.attrib.pop("directed", str(directed).lower()) != str(directed).lower():
            raise ValueError(f"{_link(edge)}: its direction differs from the graph's edgedefault; must be the same")
        edge.set("id", str(i))  # networkx would make one edge of two with the same id or key
    _check_ends([node.get("id") for node in graphs[0].iterfind("{*}node")], edges)
    with warnings.catch_warnings(action="ignore"):  # of ports, which are left out
        graph = nx.parse_graphml(ET.tostring(root, encoding="unicode"), force_multigraph=True)
    for fields in (data for _, data in graph.nodes(data=True)):
        fields.update(graph.graph["node_default"] | fields)
    for fields in (data for *_, data in graph.edges(data=True)):
        fields.update(graph.graph["edge_default"] | fields)
    return Graph(graph, directed)


def _gml(content: bytes) -> Graph:
    text = content.decode("utf-8-sig")

    def parsed(more: str) -> nx.MultiGraph:
        """Read the graph with more in its head, which stands outside strings and comments."""
        head = re.sub(r'("[^"]*"|#.*)|\bgraph\s*\[', lambda match: match[1] or f"graph [ {more} ", text)
        return nx.parse_gml(head, label=None)

    # Many files have parallel edges but do not say so in their head.
    directed = parsed("multigraph 1").is_directed()
    return Graph(parsed("multigraph 1 directed 1"), directed)


def _json(content: bytes) -> Graph:
    return _node_link(json.loads(content))


def _node_link(data: Any) -> Graph:
    """Read what `nx.node_link_data` returns."""
    if not isinstance(data, dict) or not isinstance(data.get("nodes"), list):
        raise ValueError("nodes: must be a list in an object with `nodes`, and `links` or `edges`")
    lists = [data[key] for key in ("links", "edges") if key in data]
    if len(lists) != 1 or not isinstance(lists[0], list):
        raise ValueError(f"links or edges: got {len(lists)} of them; must be one list")
    for what, fields in [("node", node) for node in data["nodes"]] + [("link", link) for link in lists[0]]:
        if not isinstance(fields, dict):
            raise ValueError(f"{what}: got {shown(fields)}; must be an object")
    _check_ends([_hashable(node.get("id")) for node in data["nodes"]], lists[0])
    directed = data.get("directed", False)
    if not isinstance(directed, bool):
        raise ValueError(f"directed: got {shown(directed)}; must be true or false")
    edges = [link | {"key": i} for i, link in enumerate(lists[0])]  # of one key, networkx would make one edge
    plain = {"directed": True, "multigraph": True, "nodes": data["nodes"], "edges": edges}
    return Graph(nx.node_link_graph(plain, edges="edges"), directed)


def _edge_list(content: bytes) -> Graph:
    rows = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
    header = [name.strip() for name in next(rows, [])]
    columns = [name.lower() for name in header]
    ends = next((pair for pair in _ENDS if set(pair) <= set(columns)), None)
    if ends is None or len(set(columns)) < len(columns):
        pairs = " or ".join(map(",".join, _ENDS))
        raise ValueError(f"line 1: got {shown(header)}; must be a header with {pairs}, and each column once")
    graph = nx.MultiDiGraph()
    for row in filter(None, rows):
        if len(row) != len(header):
            raise ValueError(f"line {rows.line_num}: got {len(row)} fields; must be {len(header)} as in the header")
        nodes = [row[columns.index(end)].strip() for end in ends]
        if "" in nodes:
            raise ValueError(f"line {rows.line_num}, {ends[nodes.index('')]}: got ''; must be the name of a node")
        fields = {name: value for name, value in zip(header, row, strict=True) if name.lower() not in ends}
        graph.add_edges_from([(*nodes, fields)])
    # A list of directions gives every link twice: to read it as one of parallel links would double all bandwidths.
    return Graph(graph, all(graph.has_edge(b, a) for a, b in graph.edges()))


_FORMATS = {".graphml": _graphml, ".gml": _gml, ".json": _json, ".csv": _edge_list}


def _suffixes() -> str:
    return " or ".join(_FORMATS)


def _check_ends(nodes: Sequence[Hashable], edges: Iterable[Any]) -> None:
    """Raise ValueError unless the nodes are unique and every edge joins two of them; networkx would add others."""
    for node, count in Counter(nodes).items():
        if node is None or count > 1:
            raise ValueError(f"node {shown(node)}: its id is missing or occurs {count} times; must be unique")
    known = set(nodes)
    for edge in edges:
        for end in ("source", "target"):
            if (node := _hashable(edge.get(end))) not in known:
                raise ValueError(f"{_link(edge)}, {end}: got {shown(node)}; must be the id of a node")


def _hashable(node: Any) -> Hashable:
    """Return an id as networkx does."""
    return tuple(node) if isinstance(node, list) else node


def _link(edge: Any) -> str:
    return f"link {edge.get('source')} - {edge.get('target')}"


def shown(value: Any) -> str:
    """Return a value as messages tell it."""
    return repr(value)[:80]
