"""The page at `/`: a plain file, so that it works without anything else being reachable."""

from functools import cache
from importlib.resources import files

from litestar import MediaType, Response, get

__all__ = ["page"]


@cache
def _html() -> bytes:
    return (files("gateway") / "web" / "index.html").read_bytes()


@get("/", include_in_schema=False, sync_to_thread=False)
def page() -> Response[bytes]:
    headers = {
        "Cache-Control": "no-cache",
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
        "connect-src 'self' ws: wss:; img-src data:",
    }
    return Response(_html(), media_type=MediaType.HTML, headers=headers)
