"""When and how to connect to the gateway: backoff and its hints, tokens that it wants renewed, and when to give up."""

import asyncio
import logging
import random
import re
import ssl

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from hub.client.problems import problem_error, retry_after_s
from hub.client.tokens import TokenKeeper
from hub.errors import GatewayUnreachable, Refused

__all__ = ["Dialler"]

logger = logging.getLogger(__name__)

BACKOFF_FIRST_S, BACKOFF_MAX_S = 0.1, 10.0
OPEN_TIMEOUT_S = 5.0
#: Frames kept unread, from the socket to the consumer.
QUEUE_FRAMES = 64

_RECONNECT = re.compile(r"reconnect_ms=(\d{1,6})")


class Dialler:
    """Connects to `url`, for `patience_s` at least. `ever`: there was a connection once, so it is tried for ever."""

    def __init__(self, url: str, tokens: TokenKeeper, patience_s: float, tls: ssl.SSLContext | None) -> None:
        self.ever = False
        self._url, self._tokens, self._tls = url, tokens, tls
        self._time = asyncio.get_running_loop().time
        self._patience_until = self._time() + patience_s
        self._retry_at = 0.0
        self._renewed = False
        self._backoff_s = BACKOFF_FIRST_S

    async def connect(self) -> ClientConnection | None:
        """Connect when it is time; None where it may work later.

        Raises Refused, RequestError and GatewayUnreachable where not.
        """
        await asyncio.sleep(max(0.0, self._retry_at - self._time()))
        try:
            return await connect(
                self._url, additional_headers=await self._tokens.headers(), ssl=self._tls, compression=None,
                max_size=None, max_queue=QUEUE_FRAMES, open_timeout=OPEN_TIMEOUT_S, ping_interval=None,
                close_timeout=2.0, proxy=None, user_agent_header="tickwire-client",
            )  # fmt: skip
        except InvalidStatus as error:
            response = error.response
            retry_s = retry_after_s(response.headers.get("Retry-After"))
            refusal = problem_error(self._url, response.status_code, bytes(response.body or b""), retry_s)
            if response.status_code == 401:
                self._renew(refusal)
                return None
            if not isinstance(refusal, Refused | GatewayUnreachable) or response.status_code == 403:
                raise refusal from error
            self._not_yet(refusal, retry_s)
        except InvalidURI as error:
            raise GatewayUnreachable(self._url, str(error)) from error
        except (OSError, InvalidHandshake, TimeoutError) as error:
            self._not_yet(GatewayUnreachable(self._url, str(error) or type(error).__name__), 0.0)
        return None

    def served(self) -> None:
        """The gateway gives what was asked for: what comes next is a first failure."""
        self._backoff_s = BACKOFF_FIRST_S
        self._renewed = False

    def lost(self, error: ConnectionClosed) -> None:
        """Decide by the close code when to come back."""
        close = error.rcvd
        code, reason = (close.code, close.reason) if close is not None else (1006, str(error))
        logger.info("connection lost code=%d reason=%s", code, reason)
        hint = _RECONNECT.search(reason)
        if code == 4401:
            self._renew(Refused(401, "unauthorized", reason))
        elif hint is not None:
            self._wait(int(hint[1]) / 1000)  # random already
        elif code == 4008:
            self._wait(0.0)  # it was us; what was missed waits in the log
        else:
            self._wait(self._backoff())

    def _not_yet(self, error: Exception, wait_s: float) -> None:
        """Decide when to try again; raises `error` where there never was a connection and patience is at its end."""
        if not self.ever and self._time() >= self._patience_until:
            raise error
        self._wait(max(wait_s, self._backoff()))
        logger.info("not connected retry_in_s=%.2f error=%s", self._retry_at - self._time(), error)

    def _renew(self, refusal: Exception) -> None:
        """Have the token renewed; raises `refusal` where it cannot be, or a new one was just refused, too."""
        if not self._tokens.renewable or self._renewed:
            raise refusal
        self._tokens.forget()
        self._renewed = True
        self._wait(0.0)

    def _wait(self, delay_s: float) -> None:
        self._retry_at = self._time() + delay_s

    def _backoff(self) -> float:
        delay_s = self._backoff_s * random.uniform(0.5, 1.0)
        self._backoff_s = min(self._backoff_s * 2, BACKOFF_MAX_S)
        return delay_s
