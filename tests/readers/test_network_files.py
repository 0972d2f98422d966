"""Networks read from files: what is taken, merged, left out and refused."""

import csv
import json
import math
import sys
from pathlib import Path

import networkx as nx
import pytest

from jaxcec.readers import read_networks

SHARED = Path(__file__).parents[2].parent / "shared" / "worlds"
HEAD = '<?xml version="1.0"?><graphml xmlns="http://graphml.graphdrawing.org/xmlns">'


def written(folder, links=(), nodes=(), *, directed=False, name="net.json", more=()):
    """Write a network in the format of its suffix; nodes are those of the links, and (name, attributes) pairs."""
    graph = nx.MultiDiGraph() if directed else nx.MultiGraph()
    graph.add_nodes_from(nodes)
    for a, b, fields in links:
        graph.add_edges_from([(a, b, fields)])
    path = folder / name
    if path.suffix == ".json":
        # Written by hand, for networkx writes an undirected edge from the first node to the second.
        edges = [{"source": a, "target": b, **fields} for a, b, fields in links]
        listed = [{"id": node, **fields} for node, fields in graph.nodes(data=True)]
        path.write_text(json.dumps({"directed": directed, "multigraph": True, "nodes": listed, "edges": edges}))
    elif path.suffix == ".csv":
        columns = sorted({column for *_, fields in links for column in fields})
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([["source", "target", *columns]])
            csv.writer(file).writerows(
                [[a, b, *(fields.get(column, "") for column in columns)] for a, b, fields in links]
            )
    else:
        {".graphml": nx.write_graphml, ".gml": nx.write_gml}[path.suffix](graph, path)
    return str(path)


def read(*args, largest_part=False, **kwargs):
    """The only network of what `written` writes."""
    (network,) = read_networks(written(*args, **kwargs), largest_part=largest_part)
    return network


def text(folder, content, name):
    """Write a file and return its path."""
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(folder / name)


def refusal(source, **kwargs):
    """The message with which a source is refused."""
    with pytest.raises(ValueError) as caught:
        read_networks(source, **kwargs)
    assert type(caught.value) is ValueError
    return str(caught.value)


LINKS = [("a", "b", {"bandwidth": 10.5, "latency": 0.25}), ("b", "c", {"LinkSpeedRaw": 2e9, "length": 100.0})]
NODES = [("a", {"speed": 5.0, "cpu": 2.0}), ("b", {"device_speed": 0.5}), ("c", {"capacity_disk": 7.0})]


@pytest.mark.parametrize("suffix", ["graphml", "gml", "json"])
def test_all_formats_give_the_same_facts(tmp_path, suffix):
    network = read(tmp_path, LINKS, NODES, name=f"my.net.{suffix}")
    assert network.name == "my.net" and network.nodes == ("a", "b", "c")
    assert network.links == ((0, 1, 10.5, None, 0.25), (1, 2, 2000.0, None, 0.0005))
    assert network.node_speed == (5.0, None, None) and network.device_speed == (None, 0.5, None)
    assert network.capacity == {"cpu": (2.0, None, None), "disk": (None, None, 7.0)}
    assert network.digest == read(tmp_path, LINKS, NODES).digest


@pytest.mark.parametrize("ends", ["source,target", "a,b", "from,to", "node1,node2", "u,v", "Source,TARGET"])
def test_an_edge_list_names_its_nodes_by_any_of_several_columns(tmp_path, ends):
    rows = f"{ends}, Bandwidth ,latency_ms\r\n\r\nx,y,5,2\n y,z,,\n"
    (network,) = read_networks(text(tmp_path, "\ufeff" + rows, "n.csv"))
    assert network.nodes == ("x", "y", "z")
    assert network.links == ((0, 1, 5.0, None, 0.002), (1, 2, None, None, None))


@pytest.mark.parametrize("key", ["links", "edges"])
def test_both_names_of_the_list_of_links_are_understood(tmp_path, key):
    source = text(tmp_path, json.dumps(nx.node_link_data(nx.path_graph(3), edges=key)), "n.json")
    assert len(read_networks(source)[0].links) == 2


@pytest.mark.parametrize(
    ("fields", "bandwidth"),
    [
        ({"bandwidth": 3, "LinkSpeedRaw": 1e6, "capacity": 9}, 3.0),
        ({"linkspeedraw": "10000000", "CAPACITY": 9}, 10.0),
        ({"Capacity": "1e2"}, 100.0),
        ({"bandwidth": "", "capacity": 4}, 4.0),
        ({"bandwidth": None}, None),
    ],
)
def test_the_first_attribute_that_is_said_gives_the_bandwidth(tmp_path, fields, bandwidth):
    assert read(tmp_path, [("a", "b", fields)]).links[0].bandwidth == bandwidth


@pytest.mark.parametrize(
    ("fields", "latency"),
    [
        ({"latency": 2, "latency_ms": 5}, 2.0),
        ({"latency_ms": 5}, 0.005),
        ({"delay_ms": 5}, 0.005),
        ({"length": 200}, 0.001),
        ({"Dist": 200}, 0.001),
        ({"distance": 0}, 0.0),
        ({}, None),
    ],
)
def test_the_latency_is_said_or_follows_from_the_length(tmp_path, fields, latency):
    assert read(tmp_path, [("a", "b", fields)]).links[0].latency == latency


@pytest.mark.parametrize("names", [("Latitude", "Longitude"), ("lat", "lon")])
def test_coordinates_give_a_latency_where_nothing_else_does(tmp_path, names):
    nodes = [("a", dict(zip(names, (0, 0), strict=True))), ("b", dict(zip(names, (0, "90"), strict=True))), ("c", {})]
    network = read(tmp_path, [("a", "b", {}), ("b", "c", {}), ("a", "c", {"length": 2})], nodes)
    assert network.links[0].latency == pytest.approx(6.371e6 * math.pi / 2 / 2e8, abs=1e-6)
    assert [link.latency for link in network.links[1:]] == [1e-5, None]
    assert "links with a latency from the places of their ends: 1" in network.notes


def test_the_length_is_that_of_the_great_circle(tmp_path):
    nodes = [("a", {"lat": 60, "lon": -45}), ("b", {"lat": 60, "lon": 45}), ("c", {"lat": -60, "lon": 135})]
    latencies = [link.latency for link in read(tmp_path, [("a", "b", {}), ("a", "c", {})], nodes).links]
    assert latencies == pytest.approx([6.371e6 * math.acos(0.75) / 2e8, 6.371e6 * math.pi / 2e8], abs=1e-6)
    assert latencies == [round(latency, 6) for latency in latencies]


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("suffix", ["graphml", "json", "csv"])
def test_up_leads_from_the_first_end_to_the_second(tmp_path, suffix, directed):
    """The second link begins at the node that the file names first."""
    links = [("a", "b", {"up": 1, "down": 2}), ("c", "b", {"up": 3, "down": 4}), ("c", "a", {"up": 5, "down": 6})]
    network = read(tmp_path, links, name=f"n.{suffix}", directed=directed)
    if suffix == "graphml" and not directed:  # networkx writes an undirected edge from the node that came first
        links[1:] = [("b", "c", {"up": 3, "down": 4}), ("a", "c", {"up": 5, "down": 6})]
    expected = {}
    for a, b, fields in links:
        expected |= {(a, b): fields["up"], (b, a): fields["down"]}
    for link in network.links:
        a, b = network.nodes[link.a], network.nodes[link.b]
        assert (link.bandwidth, link.back) == (expected.pop((a, b)), expected.pop((b, a)))
    assert not expected


def test_up_leads_from_the_first_end_to_the_second_in_gml(tmp_path):
    gml = "graph [ node [ id 0 ] node [ id 1 ] edge [ source 1 target 0 up 5 down 6 ] ]"
    assert read_networks(text(tmp_path, gml, "n.gml"))[0].links == ((0, 1, 6.0, 5.0, None),)


@pytest.mark.parametrize("suffix", ["graphml", "gml", "json", "csv"])
def test_parallel_links_become_one(tmp_path, suffix):
    fields = [{"bandwidth": 1, "latency": 3}, {"bandwidth": 2, "latency": 1}, {"bandwidth": 0.5}]
    links = [("a", "b", fields[0]), ("b", "a", fields[1]), ("a", "b", fields[2]), ("b", "c", {}), ("c", "b", {})]
    network = read(tmp_path, [*links, ("c", "d", {})], name=f"n.{suffix}")
    assert network.links == ((0, 1, 3.5, None, 1.0), (1, 2, None, None, None), (2, 3, None, None, None))
    assert "parallel links, made one of their total bandwidth and least latency: 5" in network.notes


def test_parallel_links_may_have_the_same_key_or_id(tmp_path):
    links = [("a", "b", {"bandwidth": 1, "key": 0}), ("a", "b", {"bandwidth": 2, "key": 0})]
    assert read(tmp_path, links).links[0].bandwidth == 3.0
    key = '<key id="r" for="edge" attr.name="bandwidth" attr.type="int"/>'
    edge = '<edge id="e" source="x" target="y"><data key="r">2</data></edge>'
    content = f'{HEAD}{key}<graph><node id="x"/><node id="y"/>{edge}{edge}</graph></graphml>'
    assert read_networks(text(tmp_path, content, "n.graphml"))[0].links[0].bandwidth == 4.0


def test_parallel_links_without_a_bandwidth_do_not_count(tmp_path):
    network = read(tmp_path, [("a", "b", {}), ("a", "b", {"bandwidth": 2}), ("b", "c", {}), ("b", "c", {})])
    assert [link.bandwidth for link in network.links] == [2.0, None]
    assert "parallel links without a bandwidth, left out of the total: 1" in network.notes


def test_parallel_links_of_a_gml_file_that_does_not_say_multigraph(tmp_path):
    gml = """Creator "a graph [ of [ mine" # graph [
    graph [ node [ id 0 label "Z\u00fcrich" ] node [ id 1 label "graph [ B" ]
    edge [ source 0 target 1 bandwidth 1 ] edge [ source 1 target 0 bandwidth 2 ] ]"""
    (network,) = read_networks(text(tmp_path, gml, "n.gml"))
    assert network.nodes == ("Z\u00fcrich", "graph [ B") and network.links == ((0, 1, 3.0, None, None),)


@pytest.mark.parametrize(
    ("links", "expected", "note"),
    [
        ([("a", "b", 1), ("b", "a", 2)], (1.0, 2.0), None),
        ([("b", "a", 1), ("a", "b", 2)], (2.0, 1.0), None),
        ([("a", "b", 1), ("b", "a", 1)], (1.0, 1.0), None),
        ([("b", "a", 1)], (1.0, None), "links that lead one way only, taken for both directions: 1"),
        ([("b", "a", 1), ("a", "b", None)], (1.0, None), "with the bandwidth of one direction only, taken for both: 1"),
        ([("a", "b", 1), ("a", "b", 2), ("b", "a", 4)], (3.0, 4.0), "parallel links, made one of their total"),
    ],
)
@pytest.mark.parametrize("suffix", ["graphml", "gml", "json"])
def test_the_edges_of_a_directed_graph_are_directions(tmp_path, suffix, links, expected, note):
    edges = [(a, b, {} if rate is None else {"bandwidth": rate}) for a, b, rate in links]
    nodes = [("a", {}), ("b", {})]
    network = read(tmp_path, edges, nodes, name=f"n.{suffix}", directed=True)
    assert network.links == ((0, 1, *expected, None),)
    assert (note is None) == (not any("taken for both" in each or "parallel" in each for each in network.notes))
    assert note is None or any(note in each for each in network.notes)


def test_an_edge_list_of_all_directions_is_a_directed_graph(tmp_path):
    links = [("a", "b", {"bandwidth": 1}), ("b", "a", {"bandwidth": 2})]
    assert read(tmp_path, links, name="n.csv").links == ((0, 1, 1.0, 2.0, None),)
    links.append(("b", "c", {"bandwidth": 4}))
    assert read(tmp_path, links, name="n.csv").links == ((0, 1, 3.0, None, None), (1, 2, 4.0, None, None))


def test_links_from_a_node_to_itself_are_left_out(tmp_path):
    network = read(tmp_path, [("a", "a", {}), ("a", "b", {}), ("b", "b", {}), ("b", "b", {})])
    assert network.links == ((0, 1, None, None, None),)
    assert "links from a node to itself, left out: 3" in network.notes


PARTS = [("a", "b", {}), ("c", "d", {}), ("d", "e", {}), ("f", "g", {}), ("g", "h", {})]


def test_a_network_in_parts_is_refused_or_its_largest_part_is_kept(tmp_path):
    message = refusal(written(tmp_path, PARTS))
    assert "net.json: links: the network is in 3 parts, the largest of 3 of its 8 nodes" in message
    assert "--scenario.largest-part" in message
    network = read(tmp_path, PARTS, largest_part=True)
    assert network.nodes == ("c", "d", "e")
    assert network.links == ((0, 1, None, None, None), (1, 2, None, None, None))
    assert "nodes outside the largest part, left out: 5" in network.notes
    assert not any("outside" in note for note in read(tmp_path, PARTS[:1], largest_part=True).notes)


@pytest.mark.parametrize(
    ("fields", "speed"),
    [
        ({"router": True, "speed": 3}, 0.0),
        ({"router": "1"}, 0.0),
        ({"Router": "False", "speed": 3}, 3.0),
        ({"Internal": 0}, 0.0),
        ({"Internal": 1}, None),
        ({"Internal": "1", "speed": 0}, 0.0),
    ],
)
def test_routers_have_no_speed(tmp_path, fields, speed):
    network = read(tmp_path, nodes=[("a", fields)])
    assert network.node_speed == (speed,)
    assert ("routers, which run nothing: 1" in network.notes) == (speed == 0.0 and fields.get("speed") != 0)


def test_names_are_labels_or_names_or_ids_and_unique(tmp_path):
    nodes = [(1, {"label": "A"}), (2, {"name": "B"}), (3, {}), (4, {"label": "A"}), (5, {"label": " "})]
    network = read(tmp_path, [(1, i, {}) for i in range(2, 6)], nodes)
    assert network.nodes == ("A (1)", "B", "3", "A (4)", "5")
    assert "nodes of the same label, told apart by their ids: 2" in network.notes


def test_notes_tell_the_attributes_used_and_unused(tmp_path):
    links = [("a", "b", {"LinkSpeedRaw": 1e6, "colour": "red"}), ("b", "c", {"bandwidth": 1, "key": 0})]
    links.append(("a", "c", {"up": 1, "down": 1, "capacity": 1}))
    notes = read(tmp_path, links, [("a", {"Country": "CZ", "Speed": 1, "mem": 1, "cpu": 1, "capacity_a": 1})]).notes
    assert notes == (
        "nodes with a speed from speed: 1",
        "nodes with a from capacity_a: 1",
        "nodes with cpu from cpu: 1",
        "nodes with mem from mem: 1",
        "links with a bandwidth from LinkSpeedRaw: 1",
        "links with a bandwidth from up: 1",
        "links with a bandwidth from down: 1",
        "links with a bandwidth from bandwidth: 1",
        "attributes not used: Country of nodes, colour of links",
    )


def test_the_digest_is_of_the_facts_only(tmp_path):
    links = [("a", "b", {"bandwidth": 1}), ("b", "c", {"bandwidth": 2})]
    digest = read(tmp_path, links).digest
    assert digest == read(tmp_path, links[::-1], [(n, {}) for n in "abc"], name="other.graphml").digest
    assert read(tmp_path, nodes=[("a", {"speed": -0.0})]).digest == read(tmp_path, nodes=[("a", {"speed": 0})]).digest
    changed = [
        {"links": [("a", "b", {"bandwidth": 1}), ("b", "c", {"bandwidth": 3})]},
        {"links": [("a", "b", {"bandwidth": 1}), ("a", "c", {"bandwidth": 2})]},
        {"links": links, "nodes": [("a", {"speed": 1})]},
        {"links": links, "nodes": [("a", {"device_speed": 1})]},
        {"links": links, "nodes": [("a", {"cpu": 1})]},
        {"links": [("a", "b", {"bandwidth": 1}), ("b", "d", {"bandwidth": 2})]},
    ]
    assert len({digest, *(read(tmp_path, **each).digest for each in changed)}) == 1 + len(changed)


@pytest.mark.parametrize(
    "value", [-1, "-1", "nan", math.nan, "inf", -math.inf, 1.1e15, 10**400, "x", "1_0", "\u0661", True, [1], {"a": 1}]
)
@pytest.mark.parametrize(
    "name", ["bandwidth", "LinkSpeedRaw", "capacity", "latency", "delay_ms", "length", "up", "down"]
)
def test_bad_numbers_of_links_are_refused(tmp_path, name, value):
    fields = {"up": 1, "down": 1, name: value} if name in ("up", "down") else {name: value}
    message = refusal(written(tmp_path, [("x", "y", fields)]))
    assert f"net.json: link x - y, {name}: got " in message and "; must be a number, " in message
    assert repr(value)[:20] in message and "to 1e+15" in message


@pytest.mark.parametrize("value", [-1, "nan", 2e15, 1e-7, "fast", False])
@pytest.mark.parametrize("name", ["speed", "device_speed", "cpu", "capacity_tpu"])
def test_bad_numbers_of_nodes_are_refused(tmp_path, name, value):
    message = refusal(written(tmp_path, nodes=[("x", {name: value})]))
    assert f"net.json: node x, {name}: got {value!r}; must be a number, 0 or from 1e-06 to 1e+15" in message


@pytest.mark.parametrize(
    ("links", "nodes", "message"),
    [
        ([("x", "y", {"bandwidth": 0})], [], "link x - y, bandwidth: got 0; must be a number, from 1e-06 to 1e+15"),
        ([("x", "y", {"LinkSpeedRaw": 0.5})], [], "x - y, LinkSpeedRaw: got 0.5; must be a number, from 1 to 1e+15"),
        ([("x", "y", {"bandwidth": 1, "capacity": -1})], [], "link x - y, capacity: got -1"),
        ([("x", "y", {"up": 1})], [], "link x - y, down: got none; must be given with the other direction"),
        ([("x", "y", {"up": 1, "down": 1}), ("x", "y", {"bandwidth": 1})], [], "others a bandwidth; must be the same"),
        ([("x", "y", {"latency": 1, "Latency": 1})], [], "link x - y, latency: occurs in several spellings"),
        ([], [("x", {"lat": 90.5})], "node x, lat: got 90.5; must be a number, from -90 to 90"),
        ([], [("x", {"Longitude": "E"})], "node x, Longitude: got 'E'; must be a number, from -360 to 360"),
        ([], [("x", {"router": "maybe"})], "node x, router: got 'maybe'; must be true, false, 1 or 0"),
        ([], [("x", {"Internal": 2})], "node x, internal: got 2; must be true, false, 1 or 0"),
        ([("x", "y", {}), ("x", "z", {})], [("y", {"label": "x (x)"}), ("z", {"label": "x"})], "node x (x): the name"),
        ([], [], "nodes: got none; must be at least one"),
    ],
)
def test_other_bad_values_are_refused(tmp_path, links, nodes, message):
    assert message in refusal(written(tmp_path, links, nodes))


NODE, EDGE = '<node id="x"/>', '<edge source="x" target="x"/>'
LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE g [<!ENTITY a "ha">'
    + "".join(f'<!ENTITY {chr(98 + i)} "{f"&{chr(97 + i)};" * 10}">' for i in range(20))
    + "]><graphml>&u;</graphml>"
)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        *((f"n.{suffix}", b" \n", "empty; expected a network") for suffix in ("graphml", "gml", "json", "csv")),
        ("n.txt", "x", "suffix: got '.txt'; must be .graphml or .gml or .json or .csv"),
        ("n.graphml", "hello", "not a network that can be read; ParseError: syntax error: line 1"),
        ("n.graphml", b"\xff\x00<", "not a network that can be read; UnicodeDecodeError"),
        ("n.graphml", LAUGHS, "got <!DOCTYPE; must be without document types and entities"),
        ("n.graphml", LAUGHS.encode("utf-16"), "got <!DOCTYPE"),
        ("n.graphml", "<?xml version='1.0' encoding='cp037'?>", "not a network that can be read"),
        ("n.graphml", HEAD + "</graphml>", "graph: got 0; must be one"),
        ("n.graphml", f"{HEAD}<graph><node id='g'><graph>{NODE}</graph></node></graph></graphml>", "graph: got 2"),
        ("n.graphml", f"{HEAD}<graph>{NODE}{NODE}</graph></graphml>", "node 'x': its id is missing or occurs 2 times"),
        ("n.graphml", f"{HEAD}<graph><node/></graph></graphml>", "node None: its id is missing"),
        (
            "n.graphml",
            f"{HEAD}<graph>{EDGE}</graph></graphml>",
            "link x - x, source: got 'x'; must be the id of a node",
        ),
        ("n.graphml", f"{HEAD}<graph>{NODE}<edge source='x'/></graph></graphml>", "link x - None, target: got None"),
        (
            "n.graphml",
            f"{HEAD}<graph>{NODE}<edge source='x' target='x' directed='true'/></graph></graphml>",
            "link x - x: its direction differs from the graph's edgedefault",
        ),
        ("n.graphml", f"{HEAD}<graph>{NODE}<hyperedge/></graph></graphml>", "NetworkXError"),
        ("n.graphml", f"{HEAD}<graph><node id='x'><data key='k'>1</data></node></graph></graphml>", "no key k"),
        ("n.graphml", HEAD + "<a>" * 5000 + "</a>" * 5000 + f"<graph>{NODE}</graph></graphml>", "RecursionError"),
        ("n.gml", "graph [", "not a network that can be read; NetworkXError"),
        ("n.gml", "node [ id 0 ]", "input contains no graph"),
        ("n.gml", "graph [ node [ id 0 ] node [ id 0 ] ]", "node id 0 is duplicated"),
        ("n.gml", "graph [ node [ id 0 ] edge [ source 0 target 1 ] ]", "edge #0 has undefined target 1"),
        ("n.gml", "graph [ " + "a [ " * 5000, "RecursionError"),
        ("n.json", "{", "not a network that can be read; JSONDecodeError"),
        ("n.json", "[" * 200_000, "RecursionError"),
        ("n.json", "[]", "nodes: must be a list in an object"),
        ("n.json", '{"nodes": []}', "links or edges: got 0 of them; must be one list"),
        ("n.json", '{"nodes": [], "links": [], "edges": []}', "links or edges: got 2 of them; must be one list"),
        ("n.json", '{"nodes": [1], "links": []}', "node: got 1; must be an object"),
        ("n.json", '{"nodes": [], "links": ["x"]}', "link: got 'x'; must be an object"),
        ("n.json", '{"nodes": [{}], "links": []}', "node None: its id is missing"),
        ("n.json", '{"nodes": [{"id": {}}], "links": []}', "TypeError: unhashable type"),
        ("n.json", '{"nodes": [{"id": 1}], "links": [{"source": 1}]}', "link 1 - None, target: got None"),
        (
            "n.json",
            '{"nodes": [{"id": 1}], "links": [], "directed": "no"}',
            "directed: got 'no'; must be true or false",
        ),
        ("n.csv", "a,c\n1,2\n", "line 1: got ['a', 'c']; must be a header with source,target or a,b"),
        ("n.csv", "a,b,B\n1,2,3\n", "and each column once"),
        ("n.csv", "a,b\n1\n", "line 2: got 1 fields; must be 2 as in the header"),
        ("n.csv", "a,b\n1,2\n1,\n", "line 3, b: got ''; must be the name of a node"),
        ("n.csv", 'a,b\n1,"2\n', "not a network that can be read; Error"),
        ("n.csv", "a,b\n", "nodes: got none"),
        ("n.csv", b"a,b\n\xff,2", "UnicodeDecodeError"),
    ],
)
def test_damaged_files_are_refused(tmp_path, name, content, message):
    source = text(tmp_path, content, name)
    said = refusal(source)
    assert said.startswith(f"{source}: ") and message in said


def test_a_default_of_a_graphml_key_counts(tmp_path):
    keys = (
        '<key id="s" for="node" attr.name="speed" attr.type="double"><default>7</default></key>'
        '<key id="r" for="edge" attr.name="bandwidth" attr.type="int"><default>3</default></key>'
    )
    nodes = '<node id="x"/><node id="y"><data key="s">2.5</data><port name="p"/></node>'
    content = f'{HEAD}{keys}<graph>{nodes}<edge source="x" target="y"/></graph></graphml>'
    (network,) = read_networks(text(tmp_path, content, "n.graphml"))
    assert network.node_speed == (7.0, 2.5) and network.links[0].bandwidth == 3.0


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "iso-8859-1"])
def test_encodings_of_graphml(tmp_path, encoding):
    declared = encoding.removesuffix("-sig")
    content = f'<?xml version="1.0" encoding="{declared}"?>{HEAD[21:]}<graph><node id="\u00e9"/></graph></graphml>'
    assert read_networks(text(tmp_path, content.encode(encoding), "n.graphml"))[0].nodes == ("\u00e9",)


def test_a_bad_number_of_graphml_names_its_node(tmp_path):
    key = '<key id="s" for="node" attr.name="speed" attr.type="double"/>'
    content = f'{HEAD}{key}<graph><node id="x"><data key="s">fast</data></node></graph></graphml>'
    assert "node x, speed: got 'fast'; must be a number" in refusal(text(tmp_path, content, "n.graphml"))


def test_too_large_files_are_refused_before_they_are_read(tmp_path):
    source = tmp_path / "big.graphml"
    with source.open("wb") as file:
        file.truncate(500_000_001)  # no byte is written
    assert "big.graphml: got 500,000,001 bytes; must be at most 500,000,000" in refusal(str(source))


def test_too_many_nodes_are_refused(tmp_path):
    links = [(0, i, {}) for i in range(1, 2001)]
    assert "nodes: got 2,001; must be at most 2,000" in refusal(written(tmp_path, links))
    assert len(read(tmp_path, links[:-1]).nodes) == 2000


def test_a_folder_or_a_pattern_gives_its_files_by_name(tmp_path):
    for name in ("b.json", "a.csv", "c.gml", "d[1].json"):
        written(tmp_path, LINKS, name=name)
    text(tmp_path, "no network", "README.md")
    (tmp_path / "folder.json").mkdir()
    names = [network.name for network in read_networks(str(tmp_path))]
    assert names == ["a", "b", "c", "d[1]"]
    assert [network.name for network in read_networks(f"{tmp_path}/*")] == names
    assert [network.name for network in read_networks(f"{tmp_path}/[bc].*")] == ["b", "c"]
    assert [network.name for network in read_networks(f"{tmp_path}/d[1].json")] == ["d[1]"]
    (tmp_path / "a[b]").mkdir()
    assert [network.name for network in read_networks(str(Path(written(tmp_path / "a[b]", LINKS)).parent))] == ["net"]
    text(tmp_path, "{", "bad.json")
    assert refusal(str(tmp_path)).startswith(f"{tmp_path / 'bad.json'}: ")


@pytest.mark.parametrize("source", ["nothing.graphml", "*.gml", "", "x" * 5000, "a\0b", "."])
def test_a_source_without_networks_is_refused(tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    text(tmp_path, "no network", "README.md")
    assert refusal(source).startswith(f"{source}: no network; expected a .graphml or ")


@pytest.fixture
def topohub(tmp_path, monkeypatch):
    """A package in the form of TopoHub with three topologies."""
    for name in ("small/one", "small/two", "large/3/0"):
        path = tmp_path / "topohub" / "data" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        written(path.parent, [(0, 1, {"dist": 20.0, "ecmp_fwd": {"uni": 1.5}})], [(0, {"name": "A"})], name=path.name)
    (tmp_path / "topohub" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    real = sys.modules.pop("topohub", None)
    yield
    sys.modules.pop("topohub", None)
    if real:
        sys.modules["topohub"] = real


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("small/two", ["small/two"]),
        ("small", ["small/one", "small/two"]),
        ("small/", ["small/one", "small/two"]),
        ("large", ["large/3/0"]),
        ("*/o*", ["small/one"]),
    ],
)
@pytest.mark.usefixtures("topohub")
def test_topohub_has_names_groups_and_patterns(pattern, names):
    networks = read_networks(f"topohub:{pattern}")
    assert [network.name for network in networks] == names
    assert networks[0].nodes == ("A", "1") and networks[0].links == ((0, 1, None, None, 1e-4),)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("two", "a name like small/two"), ("x", "a name or a group of large, small"), ("", "a name or a group of large")],
)
@pytest.mark.usefixtures("topohub")
def test_an_unknown_topology_is_refused(pattern, expected):
    assert f"topohub:{pattern}: no such topology; expected {expected}" in refusal(f"topohub:{pattern}")


def test_without_topohub_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "topohub", None)
    with pytest.raises(ImportError, match=r"pip install 'jaxcec\[data\]'"):
        read_networks("topohub:sndlib")


def test_the_topologies_of_sndlib():
    pytest.importorskip("topohub")
    networks = read_networks("topohub:sndlib")
    assert len(networks) == 26
    polska = next(network for network in networks if network.name == "sndlib/polska")
    assert len(polska.nodes) == 12 and len(polska.links) == 18 and "Gdansk" in polska.nodes
    assert all(link.latency > 0.0 and link.bandwidth is None for link in polska.links)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the files are not there")
def test_operators_networks():
    abilene, bics, cesnet = read_networks(f"{SHARED}/*.graphml")
    assert (len(abilene.nodes), len(abilene.links)) == (11, 14)
    assert len(bics.nodes) == 33 and len(cesnet.nodes) == 44
    assert all(link.latency is not None for link in abilene.links)
    rates = {link.bandwidth for link in cesnet.links}
    assert None in rates and 100.0 in rates
