"""The HTTP API over a real socket, with workers and a controller behind it."""

import asyncio
import contextlib
import json
import random
import shutil
import socket

import pytest

pytest.importorskip("pydantic")
pytest.importorskip("psutil")
pytest.importorskip("uvicorn")
pytest.importorskip("httpx")

import httpx
from helpers.controlled import controlling, random_service
from helpers.workers import running
from prometheus_client.parser import text_string_to_metric_families

from jaxcec.live.event_log import EventLog
from jaxcec.live.server import MOST_BYTES, Api, check_token, make_app, serve

TWO = {"source": 0, "load": [1.0, 1.0], "demand": [[0.5, 0.5]] * 2, "preds": [[], [0]], "data": [0.1, 0.1]}


@contextlib.asynccontextmanager
async def served(folder, decider, token=""):
    """A client of a site of three workers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    async with contextlib.AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(running(folder, f"n{i}", cores=0.2)) for i in range(3)]
        addresses = [worker.address for worker in workers]
        controller = await stack.enter_async_context(controlling(folder, addresses, decider))
        api = Api(controller, EventLog(folder / "log.sqlite"))
        server = await stack.enter_async_context(uvicorn_of(make_app(api, token), port))
        stack.callback(api._log.close)
        while not (server.started and controller.ledger.up[:3].all()):
            await asyncio.sleep(0.01)
        yield await stack.enter_async_context(httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20.0))


@contextlib.asynccontextmanager
async def uvicorn_of(app, port):
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
    serving = asyncio.create_task(server.serve())
    try:
        yield server
    finally:
        server.should_exit = server.force_exit = True
        await serving


async def ended(client, name):
    """The state of a service that has ended."""
    async with asyncio.timeout(120):
        while (state := (await client.get(f"/services/{name}")).json())["state"] == "in_flight":
            await asyncio.sleep(0.05)
    return state


def test_a_service_is_submitted_once_watched_and_counted(tmp_path, decider):
    async def scenario():
        async with served(tmp_path, decider) as client:
            first = await client.put("/services/s1", json=TWO)
            again = await client.put("/services/s1", json=TWO)
            other = await client.put("/services/s1", json=TWO | {"source": 1})
            state = await ended(client, "s1")
            kinds = []
            async with client.stream("GET", "/events", headers={"Last-Event-ID": "0"}) as stream:
                async for line in stream.aiter_lines():
                    kinds += [line.removeprefix("event: ")] * line.startswith("event: ")
                    if kinds.count("execution_ended") == 2:
                        break
            return first, again, other, state, kinds, await client.get("/metrics"), await client.get("/site")

    first, again, other, state, kinds, metrics, site = asyncio.run(scenario())
    assert (first.status_code, again.status_code, other.status_code) == (201, 200, 409)
    assert "under which another service was submitted" in other.json()["error"]
    assert state["state"] == "completed" and [each["phase"] for each in state["microservices"]] == ["finished"] * 2
    assert kinds.count("submitted") == 1 and kinds.index("submitted") < kinds.index("decided")
    values = {s.name: s.value for family in text_string_to_metric_families(metrics.text) for s in family.samples}
    assert values["jaxcec_services_completed_total"] == 1.0 and values["jaxcec_workers_up"] == 3.0
    assert site.json()["runs"] == [] and [node["up"] for node in site.json()["nodes"]] == [True] * 3


BAD = {
    "no JSON": (b"{", "body: got"),
    "a list": (b"[]", "body: got"),
    "a missing field": (json.dumps({k: v for k, v in TWO.items() if k != "load"}).encode(), "load: got"),
    "a negative load": (json.dumps(TWO | {"load": [1.0, -1.0]}).encode(), "load.1: got -1.0"),
    "a number that is none": (json.dumps(TWO | {"load": [1.0, float("nan")]}).encode(), "load.1: got"),
    "an unknown field": (json.dumps(TWO | {"extra": 1}).encode(), "extra: got 1"),
    "a cycle": (json.dumps(TWO | {"preds": [[1], [0]]}).encode(), "preds"),
    "a node that does not exist": (json.dumps(TWO | {"source": 7}).encode(), "source: got 7; must be"),
    "a demand that fits nowhere": (json.dumps(TWO | {"demand": [[9.0, 9.0]] * 2}).encode(), "demand"),
    "too many microservices": (
        json.dumps({**TWO, **{k: TWO[k][:1] * 99 for k in ("load", "demand", "preds", "data")}}).encode(),
        "99",
    ),
}


def test_bad_requests_get_clear_answers_and_change_nothing(tmp_path, decider):
    async def scenario():
        async with served(tmp_path, decider) as client:
            answers = {name: await client.put("/services/s", content=body) for name, (body, _) in BAD.items()}
            long = await client.put("/services/s", content=b" " * (MOST_BYTES + 1))
            others = [await client.put("/services/.hidden", json=TWO), await client.get("/events?after=-1")]
            missing = [await client.get("/services/s"), await client.get("/nowhere")]
            wrong_method = await client.post("/services/s", json=TWO)
            kubernetes = await client.post("/kubernetes/filter", json={"Pod": {}})
            return answers, long, others, missing, wrong_method, kubernetes

    answers, long, others, missing, wrong_method, kubernetes = asyncio.run(scenario())
    for name, answer in answers.items():
        assert answer.status_code == 422 and BAD[name][1] in answer.json()["error"], (name, answer.text)
    assert long.status_code == 413 and str(MOST_BYTES) in long.json()["error"]
    assert [answer.status_code for answer in others] == [422, 422]
    assert [answer.status_code for answer in missing] == [404, 404]
    assert wrong_method.status_code == 405 and kubernetes.status_code == 404


def test_random_bytes_are_never_an_error_of_the_server(tmp_path, decider):
    rng = random.Random(0)
    whole = json.dumps(random_service(rng).model_dump(exclude_none=True)).encode()

    def broken():
        body = bytearray(whole)
        for _ in range(rng.randint(1, 5)):
            body[rng.randrange(len(body))] = rng.randrange(256)
        return bytes(body[: rng.randrange(len(body) + 1)])

    async def scenario():
        async with served(tmp_path, decider) as client:
            return [(await client.put(f"/services/r{i}", content=broken())).status_code for i in range(300)]

    assert set(asyncio.run(scenario())) <= {201, 422}


def test_a_token_is_needed_beyond_loopback(tmp_path, decider):
    for host in ("0.0.0.0", "::", "10.1.2.3", "example.org"):
        with pytest.raises(ValueError, match="set a token in JAXCEC_LIVE_HTTP_TOKEN"):
            check_token(host, "")
        check_token(host, "secret")
        with pytest.raises(ValueError, match="which others can reach"):
            asyncio.run(serve(None, None, host=host, port=0, token=""))
    for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost"):
        check_token(host, "")

    async def scenario():
        async with served(tmp_path, decider, token="secret") as client:
            paths = ("/", "/healthz", "/site", "/metrics", "/events", "/services/s", "/openapi.json")
            without = {path: (await client.get(path)).status_code for path in paths}
            wrong = (await client.get("/site", headers={"Authorization": "Bearer guess"})).status_code
            right = (await client.get("/site", headers={"Authorization": "Bearer secret"})).status_code
            return without, wrong, right

    without, wrong, right = asyncio.run(scenario())
    assert {path for path, status in without.items() if status == 200} == {"/", "/healthz"}
    assert {status for status in without.values()} == {200, 401} and wrong == 401 and right == 200


def test_the_description_names_every_route(tmp_path, decider):
    async def scenario():
        async with served(tmp_path, decider) as client:
            return (await client.get("/openapi.json")).json()

    described = asyncio.run(scenario())
    found = {
        (method.upper(), path) for path, item in described["paths"].items() for method in item if method != "parameters"
    }
    app = make_app(StubApi(), "")
    routes = {(method, route.path) for route in app.routes for method in route.methods - {"HEAD"}}
    assert found == routes - {("GET", "/"), ("GET", "/openapi.json")}
    schema = described["components"]["schemas"]["Service"]
    assert "load" in schema["required"] and described["components"]["schemas"]["Error"]


class StubApi:
    """Has any handler."""

    def __getattr__(self, name):
        return lambda request: None


def test_the_page_shows_the_site_in_a_browser(tmp_path, decider):
    sync_api = pytest.importorskip("playwright.async_api")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no browser")
    slow = TWO | {"load": [60.0, 60.0]}

    async def scenario():
        async with served(tmp_path, decider) as client, sync_api.async_playwright() as playwright:
            await client.put("/services/shown", json=slow)
            browser = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
            page = await browser.new_page()
            errors = []
            page.on("pageerror", lambda error: errors.append(str(error)))
            await page.goto(str(client.base_url))
            await page.wait_for_selector("#runs tr")
            found = await page.inner_text("#runs"), await page.locator("#network circle").count()
            bars = await page.locator("#gantt rect").count()
            await browser.close()
            return found, bars, errors

    (text, circles), bars, errors = asyncio.run(scenario())
    assert "shown" in text and circles == 3 and bars >= 1 and errors == []
