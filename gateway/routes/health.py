"""Is the process alive, and can it do its work?"""

from litestar import Response, get
from msgspec import Struct

from gateway.errors import UNREADY, Problem, problem
from gateway.query import Context
from hub.errors import RedisUnavailable

__all__ = ["Health", "live", "ready"]


class Health(Struct):
    status: str


@get("/health/live", tags=["health"], responses=UNREADY)
async def live(runtime: Context) -> Response[Health] | Response[bytes]:
    """200 as long as the process works; 503 asks for a restart."""
    if not runtime.healthy:
        detail = "a task of the gateway ended; its log has the details"
        return problem(Problem(title="Service Unavailable", status=503, detail=detail, code="broken"))
    return Response(Health("ok"))


@get("/health/ready", tags=["health"], responses=UNREADY)
async def ready(runtime: Context) -> Response[Health] | Response[bytes]:
    """200 when Redis answers and the bus is subscribed."""
    try:
        await runtime.reader.ping()
        reason = "" if runtime.bus.connected else "the bus is not subscribed"
    except RedisUnavailable as error:
        reason = str(error)
    if reason or runtime.clients.draining:
        detail = reason or "the gateway is shutting down"
        return problem(Problem(title="Service Unavailable", status=503, detail=detail, code="not_ready"))
    return Response(Health("ok"))
