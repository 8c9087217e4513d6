"""`tickwire token`: mint a JWT with the secret of gateway.auth, or revoke one by its id.

The token alone goes to stdout; what it is goes to stderr. A secret or a token is never an argument, because arguments
are visible to everybody on the machine.
"""

import argparse
import asyncio
import re
import secrets
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import jwt

from hub import config
from hub.access import AuthSettings, grant_of, parse_pattern, secret_of
from hub.admission import Admission
from hub.errors import ConfigError, RequestError
from hub.keys import Keys

__all__ = ["main"]

UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def main(argv: Sequence[str]) -> int:
    args = _arguments(argv)
    settings = config.load(args.config)
    auth = settings.gateway.auth
    if args.revoke:
        until = time.time() + auth.max_ttl_s + auth.leeway_s
        asyncio.run(_revoke(settings.redis.address, settings.redis.prefix, args.revoke, until))
        print(f"revoked {args.revoke}", file=sys.stderr)
        return 0
    print(_mint(args, auth))
    return 0


def _mint(args: argparse.Namespace, auth: AuthSettings) -> str:
    secret = secret_of(auth)
    if not secret:
        raise ConfigError(
            "there is no secret to sign with: set gateway.auth.secret or gateway.auth.secret_file. Tokens for "
            "gateway.auth.jwks come from whoever has the private keys"
        )
    if args.ttl > auth.max_ttl_s:
        raise ConfigError(f"--ttl is longer than gateway.auth.max_ttl_s ({auth.max_ttl_s} s) allows")
    now = int(time.time())
    claims: dict[str, Any] = {
        "sub": args.sub,
        "jti": secrets.token_hex(8),
        "iat": now,
        "exp": now + args.ttl,
        "channels": args.channels,
    }
    optional = {
        "iss": auth.issuer, "aud": auth.audience, "max_connections": args.max_connections,
        "max_subscriptions": args.max_subscriptions, "max_messages_per_s": args.max_messages_per_s,
    }  # fmt: skip
    claims |= {name: value for name, value in optional.items() if value}
    grant_of(claims)  # what the gateway would refuse is not minted
    end = datetime.fromtimestamp(now + args.ttl, UTC).isoformat()
    print(f"sub {args.sub}, jti {claims['jti']}, until {end}, channels {' '.join(args.channels)}", file=sys.stderr)
    return jwt.encode(claims, secret, algorithm="HS256")


async def _revoke(url: str, prefix: str, jti: str, until: float) -> None:
    admission = Admission(url, Keys(prefix))
    try:
        await admission.revoke(jti, until)
    finally:
        await admission.close()


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tickwire token", description=__doc__.split("\n", 1)[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--channels", type=_patterns, metavar="A,B", help="patterns kind:venue:symbol, each part may be *; or just *"
    )
    what.add_argument("--revoke", metavar="JTI", help="refuse the token with this id from now on")
    parser.add_argument("--ttl", type=_seconds, default=86_400, metavar="TIME", help="90s, 15m, 12h, 30d (default 1d)")
    parser.add_argument("--sub", default="client", help="who it is for: limits count per name (default client)")
    parser.add_argument("--max-connections", type=_count, metavar="N", help="WebSockets at a time")
    parser.add_argument("--max-subscriptions", type=_count, metavar="N", help="channels and patterns per connection")
    parser.add_argument(
        "--max-messages-per-s", type=_count, metavar="N", help="messages from the client per connection"
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings (default: hub.toml where there is one)")
    return parser.parse_args(argv)


def _patterns(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    try:
        for name in names:
            parse_pattern(name)
    except RequestError as error:
        raise argparse.ArgumentTypeError(error.detail) from error
    if not names:
        raise argparse.ArgumentTypeError("at least one pattern is needed")
    return names


def _seconds(text: str) -> int:
    match = re.fullmatch(r"(\d{1,9})([smhd]?)", text)
    if match is None or not int(match[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 15m, 12h or 30d")
    return int(match[1]) * UNITS[match[2] or "s"]


def _count(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1")
    return int(text)
