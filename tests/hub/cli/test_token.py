"""`tickwire token`: what it mints the gateway takes; what it revokes is revoked."""

import asyncio
from pathlib import Path

import jwt
import pytest

from hub.admission import Admission
from hub.cli import config_check
from hub.cli.token import main
from hub.errors import ConfigError
from hub.keys import Keys

SECRET = "a secret for tests, as long as it has to be"


@pytest.fixture(autouse=True)
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TICKWIRE_GATEWAY__AUTH__SECRET", SECRET)


def test_a_token(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--channels", "quote:*:BTC-USDT, trade:binance:*", "--ttl", "2h", "--sub", "bot",
                 "--max-connections", "3", "--max-messages-per-s", "5"]) == 0  # fmt: skip
    out = capsys.readouterr()
    claims = jwt.decode(out.out.strip(), SECRET, algorithms=["HS256"])
    assert claims["exp"] - claims["iat"] == 7200
    assert (claims["sub"], claims["channels"]) == ("bot", ["quote:*:BTC-USDT", "trade:binance:*"])
    assert (claims["max_connections"], claims["max_messages_per_s"]) == (3, 5)
    assert "max_subscriptions" not in claims
    assert claims["jti"] in out.err
    assert SECRET not in out.err


def test_issuer_and_audience_are_the_configured_ones(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TICKWIRE_GATEWAY__AUTH__AUDIENCE", "tickwire")
    main(["--channels", "*"])
    assert jwt.decode(capsys.readouterr().out.strip(), SECRET, algorithms=["HS256"], audience="tickwire")["sub"]


@pytest.mark.parametrize(
    "argv",
    [
        [], ["--channels", ""], ["--channels", "quote"], ["--channels", "*", "--ttl", "soon"],
        ["--channels", "*", "--ttl", "0"], ["--channels", "*", "--max-connections", "0"],
        ["--channels", "*", "--revoke", "x"],
    ],
)  # fmt: skip
def test_bad_arguments(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        main(argv)
    assert error.value.code == 2


def test_what_the_gateway_would_refuse_is_not_minted(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="max_ttl_s"):
        main(["--channels", "*", "--ttl", "400d"])
    monkeypatch.delenv("TICKWIRE_GATEWAY__AUTH__SECRET")
    with pytest.raises(ConfigError, match="no secret"):
        main(["--channels", "*"])


def test_revoking(redis_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TICKWIRE_REDIS__URL", redis_url)
    assert main(["--revoke", "some-id"]) == 0

    async def revoked() -> set[str]:
        admission = Admission(redis_url, Keys())
        found = await admission.revoked(["some-id", "other"])
        await admission.close()
        return found

    assert asyncio.run(revoked()) == {"some-id"}
    assert "some-id" in capsys.readouterr().err


def test_config_check_hides_the_secret(capsys: pytest.CaptureFixture[str]) -> None:
    assert config_check.main(["check"]) == 0
    out = capsys.readouterr().out
    assert 'gateway.auth.secret = "***"\n' in out
    assert 'gateway.auth.secret_file = ""\n' in out
    assert SECRET not in out
