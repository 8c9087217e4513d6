"""The page at `/` and its files: plain ES modules and styles, so that it works without anything else being reachable.

The files' addresses hold a digest of all of them (`/web/<digest>/js/main.js`), which the page gets for `{web}`: so
browsers keep them for good and still get the new ones after an upgrade. Files of another digest, asked for while
gateways of two versions run, are answered with these, to be kept by nobody.
"""

import gzip
import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from litestar import MediaType, Request, Response, get
from litestar.exceptions import NotFoundException
from litestar.params import FromPath
from msgspec import Struct

__all__ = ["page", "page_file"]

MEDIA_TYPES = {"css": "text/css", "js": "text/javascript", "mjs": "text/javascript", "svg": "image/svg+xml"}
#: Nothing from elsewhere, no script or style within the page, and no text that becomes markup.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}


class _Web(Struct, frozen=True):
    """`files`: path -> (media type, bytes, the same gzipped)."""

    digest: str
    html: bytes
    files: Mapping[str, tuple[str, bytes, bytes]]


def _walk(folder: Traversable, prefix: str = "") -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for entry in folder.iterdir():
        if entry.is_dir():
            found |= _walk(entry, f"{prefix}{entry.name}/")
        else:
            found[prefix + entry.name] = entry.read_bytes()
    return found


@cache
def _web() -> _Web:
    contents = _walk(files("gateway") / "web")
    whole = hashlib.sha256()
    for path in sorted(contents):
        whole.update(f"{path} {len(contents[path])} ".encode() + contents[path])
    digest = whole.hexdigest()[:16]
    html = contents.pop("index.html").replace(b"{web}", f"/web/{digest}".encode())
    served = {
        path: (MEDIA_TYPES.get(path.rpartition(".")[2], "text/plain"), body, gzip.compress(body, mtime=0))
        for path, body in contents.items()
    }
    return _Web(digest, html, served)


@get("/", include_in_schema=False, sync_to_thread=False)
def page() -> Response[bytes]:
    headers = {**HEADERS, "Cache-Control": "no-cache", "Content-Security-Policy": POLICY}
    return Response(_web().html, media_type=MediaType.HTML, headers=headers)


@get("/web/{digest:str}/{path:path}", include_in_schema=False, sync_to_thread=False)
def page_file(request: Request[Any, Any, Any], digest: FromPath[str], path: FromPath[str]) -> Response[bytes]:
    """One file of the page."""
    web = _web()
    if path.lstrip("/") not in web.files:
        raise NotFoundException(f"the page has no file {path[:60]!r}")
    media_type, body, zipped = web.files[path.lstrip("/")]
    kept = "public, max-age=31536000, immutable" if digest == web.digest else "no-store"
    headers = {**HEADERS, "Cache-Control": kept, "Vary": "Accept-Encoding"}
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        body, headers["Content-Encoding"] = zipped, "gzip"
    return Response(body, media_type=media_type, headers=headers)
