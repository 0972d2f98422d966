"""The OpenAPI description of the HTTP API."""

from __future__ import annotations

from typing import Any

from jaxcec.live.events import Service
from jaxcec.live.kubernetes_extender import ExtenderArgs

_SCHEMAS = "#/components/schemas/"
_NAME: dict[str, Any] = {"name": "name", "in": "path", "required": True}
_NAME |= {"schema": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_-]{0,79}$"}}
_AFTER: dict[str, Any] = {"name": "after", "in": "query", "description": "Number of the last event that was read."}
_AFTER |= {"schema": {"type": "integer", "minimum": 0}}
_TEXTS = {
    "200": "OK",
    "201": "It was accepted.",
    "401": "The token is missing or wrong.",
    "404": "There is none.",
    "409": "Another service has the name.",
    "413": "The body is too long.",
    "422": "A value is invalid; the error names it and what is allowed.",
    "503": "Not now.",
    "507": "It could not be recorded.",
}


def openapi() -> dict[str, Any]:
    """The description, version 3.1."""
    models = Service, ExtenderArgs
    schemas = {each.__name__: each.model_json_schema(ref_template=f"{_SCHEMAS}{{model}}") for each in models}
    error = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
    return {
        "openapi": "3.1.0",
        "info": {"title": "jaxcec-live", "version": "1", "description": "Services of an edge site."},
        "components": {
            "schemas": schemas | {"Error": error},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}, {}],
        "paths": _paths(),
    }


def _paths() -> dict[str, Any]:
    submit = "Submit a service. Submitting it again under the same name changes nothing."
    return {
        "/services/{name}": {
            "parameters": [_NAME],
            "put": _operation(submit, "200", "201", "409", "413", "422", "503", "507", body="Service"),
            "get": _operation("The state of a service.", "200", "404", "422"),
        },
        "/site": {"get": _operation("Nodes, links, load of other tenants, and what runs.", "200")},
        "/events": {
            "parameters": [_AFTER],
            "get": _operation("Everything that happens, as server-sent events.", "200", "422"),
        },
        "/metrics": {"get": _operation("Metrics for Prometheus.", "200")},
        "/healthz": {"get": _operation("Whether any worker is connected.", "200", "503") | {"security": []}},
        "/kubernetes/filter": {
            "post": _operation("Nodes that can run a pod.", "200", "404", "413", "422", body="ExtenderArgs")
        },
        "/kubernetes/prioritize": {
            "post": _operation("Scores of nodes for a pod.", "200", "404", "413", "422", body="ExtenderArgs")
        },
    }


def _operation(summary: str, *codes: str, body: str = "") -> dict[str, Any]:
    error = {"content": {"application/json": {"schema": {"$ref": f"{_SCHEMAS}Error"}}}}
    responses = {code: {"description": _TEXTS[code]} | (error if code >= "400" else {}) for code in (*codes, "401")}
    operation: dict[str, Any] = {"summary": summary, "responses": responses}
    if body:
        content = {"application/json": {"schema": {"$ref": f"{_SCHEMAS}{body}"}}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation
