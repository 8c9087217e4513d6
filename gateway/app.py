"""create_app: the Litestar application and its lifespan."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from litestar import Litestar, Router
from litestar.config.cors import CORSConfig
from litestar.datastructures import State
from litestar.di import Provide
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, YamlRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme

from gateway.asyncapi import asyncapi
from gateway.errors import HANDLERS
from gateway.guard import only_guests
from gateway.metrics import RequestCounter, make_registry, metrics
from gateway.query import check_parameters, provide_grant, provide_runtime
from gateway.routes.books import get_books
from gateway.routes.candles import get_candles
from gateway.routes.health import live, ready
from gateway.routes.instruments import get_asset, get_instruments, list_instruments
from gateway.routes.page import page, page_file
from gateway.routes.quotes import get_quotes, list_quotes
from gateway.routes.series import get_series
from gateway.routes.tickers import get_tickers, list_tickers
from gateway.routes.trades import get_trades
from gateway.routes.venues import get_venue, list_venues
from gateway.runtime import Runtime
from gateway.ws import stream, stream_symbol
from hub.config import Settings

__all__ = ["create_app"]

BEARER_SCHEME = SecurityScheme(
    type="http",
    scheme="bearer",
    bearer_format="JWT",
    description="Where the gateway asks who its clients are: docs/tokens.md.",
)
RESOURCES = [
    get_quotes, list_quotes, get_tickers, list_tickers, get_books, get_trades, get_candles, get_series,
    get_instruments, list_instruments, get_asset, list_venues, get_venue,
]  # fmt: skip


def create_app(settings: Settings) -> Litestar:
    """Return the gateway's application; it connects to Redis when it is started."""
    runtime = Runtime(settings)
    requests = RequestCounter()

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        await runtime.start()
        try:
            yield
        finally:
            await runtime.stop()

    rest = Router(
        "/v1",
        route_handlers=RESOURCES,
        before_request=check_parameters,
        guards=[only_guests],
        dependencies={"grant": Provide(provide_grant, sync_to_thread=False)},
        # Without tokens they may be shown all the same.
        security=[{"bearer": []}] if settings.gateway.auth.required else [{}, {"bearer": []}],
    )
    inner = Router("/", route_handlers=[metrics], guards=[only_guests])
    origins = settings.gateway.origins
    return Litestar(
        [rest, stream, stream_symbol, live, ready, inner, asyncapi, page, page_file],
        lifespan=[lifespan],
        state=State({"runtime": runtime, "registry": make_registry(runtime, requests)}),
        dependencies={"runtime": Provide(provide_runtime, sync_to_thread=False)},
        exception_handlers=HANDLERS,
        before_send=[requests.before_send],
        # Without it browsers keep answers from the scripts of foreign pages. Tokens are no cookies: no credentials.
        cors_config=CORSConfig(origins, ["GET"], ["Authorization"], allow_credentials=False) if origins else None,
        logging_config=None,
        openapi_config=OpenAPIConfig(
            title="Tickwire",
            version="1",
            description="Market data snapshots. Streams: WebSocket /v1/ws.",
            path="/schema",
            components=Components(security_schemes={"bearer": BEARER_SCHEME}),
            render_plugins=[JsonRenderPlugin(path=["/", "/openapi.json"]), YamlRenderPlugin()],
        ),
    )
