"""The HTTP API of a site: submit services, watch them, and let others' schedulers ask. `openapi.json` describes it.

On a loopback address no token is needed; on any other address a bearer token is. Bodies are bounded
and validated. Traffic is not encrypted: a proxy in front of it can do that.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import itertools
import json
import sqlite3
from collections.abc import AsyncIterator
from importlib import resources
from typing import Any, TypeVar

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from jaxcec.live.api_description import openapi
from jaxcec.live.controller import Busy, Controller
from jaxcec.live.event_log import EventLog
from jaxcec.live.events import Service, ServiceId
from jaxcec.live.kubernetes_extender import Extender, ExtenderArgs
from jaxcec.live.prometheus_metrics import metrics_text
from jaxcec.live.service_state import service_state, site_state

HTTP_TOKEN = "JAXCEC_LIVE_HTTP_TOKEN"  # the environment variable
MOST_BYTES = 1 << 20  # of a body
_BATCH = 100  # events that are read at once
_BEAT = 15.0  # s without an event after which a stream says that it is there
_OPEN = ("/healthz", "/")  # that need no token: they tell nothing of the site
_NAME: TypeAdapter[str] = TypeAdapter(ServiceId)
Model = TypeVar("Model", bound=BaseModel)


def is_loopback(host: str) -> bool:
    """Whether nobody else can reach an address to listen on."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Api:
    """The handlers.

    Args:
        controller: of the site.
        log: the controller's, to read.
        extender: answers Kubernetes' scheduler; None if there is none.
    """

    def __init__(self, controller: Controller, log: EventLog, extender: Extender | None = None) -> None:
        self._controller, self._log, self._extender = controller, log, extender
        self._news = asyncio.Event()
        controller.listeners.append(lambda _: self._tell())

    def _tell(self) -> None:
        """Wake all streams."""
        self._news.set()
        self._news = asyncio.Event()

    async def submit(self, request: Request) -> Response:
        """PUT /services/{name}"""
        name, service = _name(request), await _body(request, Service)
        try:
            new = self._controller.submit(name, service)
        except ValueError as error:
            taken = str(error).startswith("name:")
            raise HTTPException(409 if taken else 422, str(error)) from None
        except Busy as error:
            raise HTTPException(503, str(error), {"Retry-After": "10"}) from None
        except sqlite3.Error as error:
            raise HTTPException(507, f"the service could not be recorded: {error}") from None
        return JSONResponse(self._state(name), 201 if new else 200)

    async def service(self, request: Request) -> Response:
        """GET /services/{name}"""
        return JSONResponse(self._state(_name(request)))

    def _state(self, name: str) -> dict[str, Any]:
        state = service_state(event for _, event in self._log.read(service=name))
        if state is None:
            raise HTTPException(404, f"name: got {name!r}, under which no service was submitted")
        return state

    async def site(self, request: Request) -> Response:
        """GET /site"""
        return JSONResponse(site_state(self._controller.ledger, self._controller.now()))

    async def events(self, request: Request) -> Response:
        """GET /events"""
        text = request.query_params.get("after") or request.headers.get("last-event-id") or "0"
        if not text.isdecimal() or len(text) > 18:
            raise HTTPException(422, f"after: got {text[:40]!r}; must be the number of an event")
        headers = {"Cache-Control": "no-store"}
        return StreamingResponse(self._stream(int(text)), media_type="text/event-stream", headers=headers)

    async def _stream(self, after: int) -> AsyncIterator[str]:
        while True:
            news = self._news  # before reading, so that nothing is missed in between
            batch = list(itertools.islice(self._log.read(after=after), _BATCH))
            for after, event in batch:
                yield f"id: {after}\nevent: {event.kind}\ndata: {event.model_dump_json(exclude_none=True)}\n\n"
            if not batch:
                try:
                    await asyncio.wait_for(news.wait(), _BEAT)
                except TimeoutError:
                    yield ": still here\n\n"

    async def metrics(self, request: Request) -> Response:
        """GET /metrics"""
        text = metrics_text(self._controller.ledger, self._controller.now)
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    async def health(self, request: Request) -> Response:
        """GET /healthz"""
        up = int(self._controller.ledger.up.sum())
        return JSONResponse({"status": "ok" if up else "no worker is connected"}, 200 if up else 503)

    async def page(self, request: Request) -> Response:
        """GET /"""
        return HTMLResponse(resources.files("jaxcec.live").joinpath("live_page.html").read_text())

    async def description(self, request: Request) -> Response:
        """GET /openapi.json"""
        return JSONResponse(openapi())

    async def filter(self, request: Request) -> Response:
        """POST /kubernetes/filter"""
        extender, args = self._kubernetes(), await _body(request, ExtenderArgs)
        try:
            return JSONResponse(extender.filter(args))
        except ValueError as error:  # in the form in which the scheduler reads it
            nothing: dict[str, Any] = {"Nodes": None, "NodeNames": None, "FailedNodes": {}}
            return JSONResponse(nothing | {"Error": str(error)})

    async def prioritize(self, request: Request) -> Response:
        """POST /kubernetes/prioritize"""
        extender, args = self._kubernetes(), await _body(request, ExtenderArgs)
        try:
            return JSONResponse(extender.prioritize(args))
        except ValueError as error:
            raise HTTPException(422, str(error)) from None

    def _kubernetes(self) -> Extender:
        if self._extender is None:
            raise HTTPException(404, "the site has no section `kubernetes`")
        return self._extender


def make_app(api: Api, token: str) -> Starlette:
    """The application; every request but a few needs the token, unless that is empty."""
    routes = [
        Route("/", api.page),
        Route("/openapi.json", api.description),
        Route("/healthz", api.health),
        Route("/metrics", api.metrics),
        Route("/site", api.site),
        Route("/events", api.events),
        Route("/services/{name}", api.service),
        Route("/services/{name}", api.submit, methods=["PUT"]),
        Route("/kubernetes/filter", api.filter, methods=["POST"]),
        Route("/kubernetes/prioritize", api.prioritize, methods=["POST"]),
    ]
    handlers = {HTTPException: _error, sqlite3.Error: _unreadable}
    return Starlette(routes=routes, middleware=[Middleware(_Bearer, token=token)], exception_handlers=handlers)


async def serve(controller: Controller, api: Api, *, host: str, port: int, token: str) -> None:
    """Run the controller and listen, until the process is told to end.

    Raises:
        ValueError: others can reach the address and there is no token.
    """
    check_token(host, token)
    config = uvicorn.Config(
        make_app(api, token), host=host, port=port, log_level="warning", h11_max_incomplete_event_size=65_536
    )
    server = uvicorn.Server(config)
    controlling = asyncio.create_task(controller.run())
    serving = asyncio.create_task(server.serve())
    try:
        await asyncio.wait([controlling, serving], return_when=asyncio.FIRST_COMPLETED)
    finally:
        server.should_exit = server.force_exit = True
        controlling.cancel()
        await asyncio.gather(serving, controlling, return_exceptions=True)
    if not controlling.cancelled():
        controlling.result()


def check_token(host: str, token: str) -> None:
    """Raise ValueError if others can reach the address and there is no token."""
    if not token and not is_loopback(host):
        raise ValueError(f"--host: got {host}, which others can reach; set a token in {HTTP_TOKEN}")


class _Bearer:
    """Asks for the token."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode() if token else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on if it has the token, or needs none."""
        if scope["type"] == "http" and self._expected is not None and scope["path"] not in _OPEN:
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(given, self._expected):
                refused = {"error": "a bearer token is needed"}
                await JSONResponse(refused, 401, {"WWW-Authenticate": "Bearer"})(scope, receive, send)
                return
        await self._app(scope, receive, send)


async def _error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _unreadable(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": f"the event log cannot be read: {error}"}, 503)


def _name(request: Request) -> str:
    try:
        return _NAME.validate_python(request.path_params["name"])
    except ValidationError:
        name = request.path_params["name"]
        raise HTTPException(422, f"name: got {name[:40]!r}; must be 1 to 80 letters, digits, _ and -") from None


async def _body(request: Request, model: type[Model]) -> Model:
    """The body as a model; a clear error if it is too long, is not JSON, or does not have the fields."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BYTES:
            raise HTTPException(413, f"body: got more than {MOST_BYTES} bytes")
    try:
        return model.model_validate_json(bytes(body))
    except ValidationError as error:
        raise HTTPException(422, "; ".join(map(_shown, error.errors(include_url=False)))) from None


def _shown(error: Any) -> str:
    """One error of a body: the field, what is wrong, and the beginning of its value."""
    where = ".".join(map(str, error["loc"])) or "body"
    return f"{where}: got {json.dumps(error['input'], default=str)[:80]}; {error['msg']}"
