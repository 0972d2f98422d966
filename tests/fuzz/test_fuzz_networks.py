"""Random GraphML files and edge lists: exactly the facts that were written, or a ValueError that names the file."""

import csv
import io
import json
from xml.sax.saxutils import quoteattr

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxcec.readers import read_networks

EXAMPLES = pytest.mark.parametrize("examples", [100, pytest.param(1000, marks=pytest.mark.slow)])

letters = st.characters(codec="utf-8", exclude_categories=("C", "Z"))
names = st.text(letters, min_size=1, max_size=4)
positive = st.floats(1e-6, 1e15)
rates = st.none() | positive
links = st.tuples(
    st.integers(0, 9), st.integers(0, 9), st.fixed_dictionaries({"bandwidth": rates, "latency": st.none() | positive})
)


@st.composite
def networks(draw):
    """Names, links that connect them all, with parallel ones and self-loops, and each node's attributes."""
    nodes = draw(st.lists(names, min_size=2, max_size=6, unique=True))
    drawn = draw(st.lists(links, min_size=len(nodes) - 1, max_size=12))
    tree = [(i + 1, a % (i + 1), fields) for i, (a, _, fields) in enumerate(drawn[: len(nodes) - 1])]
    others = [(a % len(nodes), b % len(nodes), fields) for a, b, fields in drawn[len(nodes) - 1 :]]
    said = st.fixed_dictionaries({"speed": rates, "device_speed": rates, "cpu": rates, "capacity_x": rates})
    return nodes, tree + others, [draw(said) for _ in nodes]


def graphml(nodes, links, said):
    """The network as a GraphML file."""
    keys = [f'<key id="{k}" for="node" attr.name="{k}" attr.type="double"/>' for k in said[0]]
    keys += [f'<key id="{k}" for="edge" attr.name="{k}" attr.type="double"/>' for k in ("bandwidth", "latency")]

    def data(fields):
        return "".join(f'<data key="{k}">{v!r}</data>' for k, v in fields.items() if v is not None)

    listed = [f"<node id={quoteattr(n)}>{data(fields)}</node>" for n, fields in zip(nodes, said, strict=True)]
    listed += [
        f"<edge source={quoteattr(nodes[a])} target={quoteattr(nodes[b])}>{data(fields)}</edge>"
        for a, b, fields in links
    ]
    body = "\n".join([*keys, '<graph edgedefault="undirected">', *listed, "</graph>"])
    return f'<graphml xmlns="http://graphml.graphdrawing.org/xmlns">\n{body}\n</graphml>'


def gml(nodes, links, said):
    """The network as a GML file."""

    def data(fields):
        return " ".join(f"{k} {v:.6f}" for k, v in fields.items() if v is not None)

    listed = [f"node [ id {i} {data(fields)} ]" for i, fields in enumerate(said)]
    listed += [f"edge [ source {a} target {b} {data(fields)} ]" for a, b, fields in links]
    return "\n".join(["graph [", *listed, "]"])


def node_link(nodes, links, said):
    """The network as node-link JSON."""
    listed = [{"id": n, **fields} for n, fields in zip(nodes, said, strict=True)]
    edges = [{"source": nodes[a], "target": nodes[b], **fields} for a, b, fields in links]
    return json.dumps({"directed": False, "nodes": listed, "links": edges}, ensure_ascii=False)


def edge_list(nodes, links, _=None):
    """The links as an edge list."""
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(["source", "target", "bandwidth", "latency"])
    writer.writerows([nodes[a], nodes[b], fields["bandwidth"], fields["latency"]] for a, b, fields in links)
    return file.getvalue()


def merged(nodes, links):
    """By the names of two nodes: bandwidth and latency of the link between them."""
    facts = {}
    for a, b, fields in links:
        if a != b:
            facts.setdefault(frozenset((nodes[a], nodes[b])), []).append(fields)
    return {
        pair: tuple(
            combine(values) if (values := [f[key] for f in parallel if f[key] is not None]) else None
            for key, combine in (("bandwidth", lambda rates: pytest.approx(sum(rates), rel=1e-12)), ("latency", min))
        )
        for pair, parallel in facts.items()
    }


def links_of(network):
    """What `merged` returns, of a network that was read."""
    named = {frozenset((network.nodes[link.a], network.nodes[link.b])): link for link in network.links}
    assert len(named) == len(network.links) and all(link.a < link.b and link.back is None for link in network.links)
    return {pair: (link.bandwidth, link.latency) for pair, link in named.items()}


def many(examples):
    """Settings for a number of examples that share a folder."""
    suppressed = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    return settings(max_examples=examples, deadline=None, database=None, suppress_health_check=suppressed)


@EXAMPLES
def test_graphml_gives_the_facts_that_were_written(tmp_path, examples):
    @many(examples)
    @given(networks())
    def check(drawn):
        nodes, links, said = drawn
        path = tmp_path / "n.graphml"
        path.write_text(graphml(nodes, links, said), encoding="utf-8")
        (network,) = read_networks(str(path))
        assert network.nodes == tuple(nodes)
        assert links_of(network) == merged(nodes, links)
        assert network.node_speed == tuple(fields["speed"] for fields in said)
        assert network.device_speed == tuple(fields["device_speed"] for fields in said)
        for kind, name in (("cpu", "cpu"), ("x", "capacity_x")):
            units = tuple(fields[name] for fields in said)
            assert network.capacity.get(kind, (None,) * len(nodes)) == units

    check()


@EXAMPLES
def test_an_edge_list_gives_the_facts_that_were_written(tmp_path, examples):
    @many(examples)
    @given(networks())
    def check(drawn):
        nodes, links, _ = drawn
        # A link without an opposite, for otherwise the list may be one of directions.
        nodes = [*nodes, "the last"]
        links = [*links, (0, len(nodes) - 1, {"bandwidth": None, "latency": None})]
        path = tmp_path / "n.csv"
        path.write_text(edge_list(nodes, links), encoding="utf-8", newline="")
        (network,) = read_networks(str(path))
        assert set(network.nodes) == set(nodes)
        assert links_of(network) == merged(nodes, links)

    check()


XML = ["<", ">", "&", "</node>", "<graph>", "<port/>", "<![CDATA[", "<!DOCTYPE x>", "&lt;", "&x;"]
OTHER = [
    "",
    '"',
    "'",
    "\n",
    "\r",
    "\0",
    ",",
    ",,",
    "]",
    "[",
    "{",
    "nan",
    "-1",
    "1e400",
    "1_0",
    "\ufeff",
    "\u0661",
    "id",
    "source",
]
junk = st.sampled_from(XML + OTHER) | st.text(max_size=3)
edits = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 40), junk), min_size=1, max_size=4)


@EXAMPLES
@pytest.mark.parametrize(
    ("suffix", "write"), [("graphml", graphml), ("csv", edge_list), ("gml", gml), ("json", node_link)]
)
def test_damaged_text_is_refused_with_the_file_s_name(tmp_path, suffix, write, examples):
    @many(examples)
    @given(networks(), edits, st.booleans())
    def check(drawn, changes, largest_part):
        text = write(*drawn)
        for where, length, new in changes:
            start = int(where * len(text))
            text = text[:start] + new + text[start + length :]
        path = tmp_path / f"n.{suffix}"
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        try:
            (network,) = read_networks(str(path), largest_part=largest_part)
        except ValueError as error:
            assert type(error) is ValueError and str(error).startswith(f"{path}: ")
        else:
            assert len(network.nodes) == len(set(network.nodes)) == len(network.node_speed)
            pairs = [(link.a, link.b) for link in network.links]
            assert pairs == sorted(set(pairs)) and all(0 <= a < b < len(network.nodes) for a, b in pairs)
            numbers = [x for link in network.links for x in link[2:]] + [*network.node_speed, *network.device_speed]
            assert all(x is None or 0.0 <= x < 1e17 for x in numbers)

    check()
