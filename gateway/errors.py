"""Errors to RFC 9457 problem bodies: ours, and Litestar's own (validation, unknown path, wrong method)."""

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, cast

import msgspec
from litestar import Request, Response
from litestar.enums import OpenAPIMediaType
from litestar.exceptions import HTTPException, MethodNotAllowedException, ValidationException
from litestar.openapi.datastructures import ResponseSpec
from litestar.types import ExceptionHandlersMap
from msgspec import UNSET, Struct, UnsetType

from gateway.guard import refusal_headers
from hub.errors import NotFound, RedisUnavailable, Refused, RequestError
from hub.log import mask_tokens

__all__ = ["HANDLERS", "PROBLEMS", "TABLE_PROBLEMS", "UNREADY", "Problem", "problem", "refusal"]

logger = logging.getLogger(__name__)

MEDIA_TYPE: Final = "application/problem+json"


class Problem(Struct, kw_only=True, omit_defaults=True):
    """RFC 9457. `code` is a stable word for programs, `near` are names that exist, `allowed` what would be accepted,
    `errors` the parameters at fault."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str | UnsetType = UNSET
    near: Sequence[str] = ()
    allowed: Sequence[str] = ()
    errors: Sequence[dict[str, str]] = ()


def _documented(description: str) -> ResponseSpec:
    # Litestar's annotation knows only its own media types; any text is written into the schema as it is.
    kind = cast(OpenAPIMediaType, MEDIA_TYPE)
    return ResponseSpec(Problem, generate_examples=False, description=description, media_type=kind)


#: What every resource may answer instead, for the OpenAPI document.
PROBLEMS: Final = {
    400: _documented("A parameter cannot be used; `allowed` or `errors` say more"),
    401: _documented("A token is missing or wrong"),
    403: _documented("The token does not allow this"),
    404: _documented("Nobody publishes this; `near` are names that exist"),
    429: _documented("Too many requests; Retry-After says when to come back"),
    503: _documented("Redis cannot be reached"),
}
#: Of resources that come in several formats, too.
TABLE_PROBLEMS: Final = {**PROBLEMS, 406: _documented("None of the formats that the client accepts")}
UNREADY: Final = {503: _documented("The process cannot do its work")}


def problem(body: Problem, headers: Mapping[str, str] | None = None) -> Response[bytes]:
    """Return the response for a problem."""
    # `type` is written although it is the default: readers look for it. A token in the wrong place is not repeated.
    content = {"type": body.type, **msgspec.to_builtins(body), "detail": mask_tokens(body.detail)}
    return Response(
        msgspec.json.encode(content), status_code=body.status, media_type=MEDIA_TYPE, headers=dict(headers or {})
    )


def _title(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def _request_error(_: Request[Any, Any, Any], error: RequestError) -> Response[bytes]:
    status = 404 if isinstance(error, NotFound) else 400
    near = error.near if isinstance(error, NotFound) else ()
    return problem(
        Problem(
            title=_title(status), status=status, detail=error.detail, code=error.code, near=near, allowed=error.allowed
        )
    )


def refusal(error: Refused | RedisUnavailable) -> Response[bytes]:
    """Return the response for somebody who is not let in."""
    if isinstance(error, RedisUnavailable):
        detail = "Redis cannot be reached at the moment, so nobody can tell whether the token is revoked"
        body = Problem(title=_title(503), status=503, detail=detail, code="redis_unavailable")
        return problem(body, {"Retry-After": "1"})
    body = Problem(title=_title(error.status), status=error.status, detail=error.detail, code=error.code)
    return problem(body, refusal_headers(error))


def _refused(_: Request[Any, Any, Any], error: Refused) -> Response[bytes]:
    return refusal(error)


def _redis_unavailable(_: Request[Any, Any, Any], error: RedisUnavailable) -> Response[bytes]:
    logger.warning("%s", error)
    detail = "Redis cannot be reached at the moment; nothing is served from memory, because it could be out of date"
    body = Problem(title=_title(503), status=503, detail=detail, code="redis_unavailable")
    return problem(body, {"Retry-After": "1"})


def _http_error(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    status = error.status_code
    body = Problem(title=_title(status), status=status, detail=error.detail or _title(status))
    if isinstance(error, ValidationException):
        body.code = "bad_parameter"
        body.errors = _fields(error.extra)
        body.detail = "; ".join(f"{e.get('parameter', 'body')}: {e['message']}" for e in body.errors) or body.detail
    elif status == 404:
        body.detail = f"there is no {request.url.path}; /schema lists all paths"
    elif isinstance(error, MethodNotAllowedException):
        body.detail = f"{request.method} is not possible here"
    return problem(body, error.headers)


def _fields(extra: Any) -> list[dict[str, str]]:
    found = []
    for item in extra if isinstance(extra, list) else []:
        if isinstance(item, dict):
            field = {"message": str(item.get("message", ""))}
            if item.get("key"):
                field["parameter"] = str(item["key"])
            found.append(field)
    return found


def _bug(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    logger.error("bug in a handler path=%s", request.url.path, exc_info=error)
    return problem(Problem(title=_title(500), status=500, detail="an error of the gateway; its log has the details"))


HANDLERS: Final[ExceptionHandlersMap] = {
    Refused: _refused,
    RequestError: _request_error,
    RedisUnavailable: _redis_unavailable,
    HTTPException: _http_error,
    Exception: _bug,
}
