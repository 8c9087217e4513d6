"""The page's files as they are served, and what may be in them."""

import gzip
import hashlib
import re
import tomllib
from pathlib import Path

import pytest

from hub.instruments import Instrument
from tests.gateway.kit import Feed, Gateway, gateway_on

#: The fixtures' loop, for those tests that have one.
in_loop = pytest.mark.asyncio(loop_scope="session")

ROOT = Path(__file__).resolve().parents[2]
WEB = ROOT / "gateway" / "web"
OWN = sorted(file for file in WEB.rglob("*") if file.suffix in {".js", ".css", ".html"})


@in_loop
async def test_every_file_the_page_names_is_there(redis_url: str) -> None:
    async with gateway_on(redis_url) as gateway:
        _, headers, html = await gateway.request("GET", "/")
        assert headers["cache-control"] == "no-cache"
        named = re.findall(r'(?:src|href)="(/[^"]+)"', html.decode())
        assert len(named) >= 5
        types = {}
        for path in named:
            code, headers, _ = await gateway.request("GET", path)
            assert code == 200, path
            assert headers["cache-control"] == "public, max-age=31536000, immutable"
            assert headers["x-content-type-options"] == "nosniff"
            types[path.rpartition(".")[2]] = headers["content-type"].partition(";")[0]
        assert types == {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}


def test_modules_import_only_files_that_are_there() -> None:
    for module in sorted(WEB.glob("js/*.js")):
        for name in re.findall(r'from "([^"]+)"', module.read_text()):
            assert (module.parent / name).is_file(), f"{module.name}: {name}"


@in_loop
async def test_files_are_sent_compressed_and_unknown_ones_not_at_all(gateway: Gateway) -> None:
    _, _, html = await gateway.request("GET", "/")
    main = re.search(r'src="(/web/\w+)/js/main.js"', html.decode())
    assert main is not None
    path = f"{main[1]}/js/main.js"
    _, _, plain = await gateway.request("GET", path)
    _, headers, zipped = await gateway.request("GET", path, Accept_Encoding="gzip, br")
    assert headers["content-encoding"] == "gzip" and headers["vary"] == "Accept-Encoding"
    assert gzip.decompress(zipped) == plain == (WEB / "js" / "main.js").read_bytes()
    for wrong in ("js/none.js", "../app.py", "js/../../app.py", "%2e%2e/app.py", "js", "", "index.html"):
        assert (await gateway.request("GET", f"{main[1]}/{wrong}"))[0] in {400, 404}, wrong


@in_loop
async def test_files_of_another_version_are_kept_by_nobody(gateway: Gateway) -> None:
    code, headers, _ = await gateway.request("GET", "/web/0123456789abcdef/js/main.js")
    assert (code, headers["cache-control"]) == (200, "no-store")


@in_loop
async def test_the_policy_allows_nothing_from_elsewhere(gateway: Gateway) -> None:
    _, headers, html = await gateway.request("GET", "/")
    rules = dict(rule.strip().split(" ", 1) for rule in headers["content-security-policy"].split(";"))
    assert rules["default-src"] == "'none'" and rules["script-src"] == rules["style-src"] == "'self'"
    assert "unsafe" not in headers["content-security-policy"]
    assert rules["require-trusted-types-for"] == "'script'"
    assert not re.search(rb"<script(?![^>]*src=)|<style|\son\w+=|style=", html), "scripts and styles are files"


@in_loop
async def test_the_page_comes_where_tokens_are_required(redis_url: str) -> None:
    async with gateway_on(redis_url, auth={"secret": "s" * 40}) as gateway:
        assert (await gateway.request("GET", "/"))[0] == 200
        assert (await gateway.request("GET", "/web/x/js/main.js"))[0] == 200
        assert (await gateway.request("GET", "/v1/venues"))[0] == 401


@in_loop
async def test_instruments_of_a_list_of_symbols(gateway: Gateway, feed: Feed) -> None:
    await feed.list_instruments(
        *(
            Instrument(
                venue="binance", venue_symbol=base + "USDT", symbol=f"{base}-USDT", kind="spot", base=base,
                quote="USDT", tick_size=0.01,
            )
            for base in ("BTC", "ETH", "SOL")
        )
    )  # fmt: skip
    code, page = await gateway.get("/v1/instruments?symbols=SOL-USDT,BTC-USDT,NONE-USDT")
    assert code == 200 and [row["symbol"] for row in page["items"]] == ["BTC-USDT", "SOL-USDT"]
    code, page = await gateway.get("/v1/instruments?symbols=" + ",".join(f"A{i}" for i in range(1001)))
    assert (code, page["code"]) == (400, "bad_parameter")


def test_own_files_are_short_and_make_no_markup_of_data() -> None:
    assert len(OWN) > 15
    for file in OWN:
        text = file.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 300, file.name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", text), file.name
        links = set(re.findall(r"https?://[^\s\"'`]+", text))
        assert links <= {"https://www.tradingview.com/"}, file.name


def test_the_library_is_what_the_table_says() -> None:
    table = (WEB / "vendor" / "README.md").read_text()
    digest = re.search(r"`([0-9a-f]{64})`", table)
    library = WEB / "vendor" / "lightweight-charts" / "lightweight-charts.standalone.production.mjs"
    assert digest is not None and digest[1] == hashlib.sha256(library.read_bytes()).hexdigest()
    version = re.search(r"v(\d+\.\d+\.\d+)", library.read_text()[:200])
    assert version is not None and f"| {version[1]} |" in table
    notice = (library.parent / "NOTICE").read_text()
    attribution = (WEB / "js" / "chart.js").read_text()
    assert "TradingView Lightweight Charts™" in notice and "TradingView Lightweight Charts™" in attribution
    assert "Apache License" in (library.parent / "LICENSE").read_text()


def test_the_wheel_holds_every_file() -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["gateway"]
    packed = {file for pattern in patterns for file in (ROOT / "gateway").glob(pattern) if file.is_file()}
    assert packed == {file for file in WEB.rglob("*") if file.is_file()}
