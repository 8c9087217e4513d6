"""The gateway's refusals, as the hub's exceptions."""

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from hub.errors import GatewayUnreachable, NotFound, Refused, RequestError

__all__ = ["problem_error", "retry_after_s"]


class _Problem(Struct):
    """The part of an RFC 9457 body that says what to do."""

    detail: str = ""
    code: str = ""
    near: list[str] = []
    allowed: list[str] = []


def retry_after_s(text: str | None) -> float:
    """Return the seconds of a Retry-After header, 1 where there is none that can be read."""
    return float(text) if text is not None and text.isdigit() else 1.0


def problem_error(url: str, status: int, body: bytes, retry_s: float) -> RequestError | GatewayUnreachable:
    """Return the exception for a refusal with a problem body (RFC 9457)."""
    try:
        problem = msgspec.json.decode(body, type=_Problem)
    except msgspec.DecodeError:
        return GatewayUnreachable(url, f"it answered {status}, which is none of a gateway's answers")
    detail = problem.detail or f"the gateway answered {status}"
    if status == 404 and problem.code:
        return NotFound(problem.code, _with(detail, "near", problem.near), problem.near)
    if status in {401, 403, 429}:
        return Refused(status, problem.code, detail, retry_s)
    if status == 400:
        return RequestError(problem.code, _with(detail, "allowed", problem.allowed), problem.allowed)
    return GatewayUnreachable(url, detail)


def _with(detail: str, word: str, names: Sequence[str]) -> str:
    return f"{detail}; {word}: {', '.join(names)}" if names else detail
