"""The client's token: where it comes from, and that it is asked for again when the gateway wants another."""

import inspect

from hub.client.items import Token
from hub.errors import Refused

__all__ = ["TokenKeeper"]


class TokenKeeper:
    """Keeps the current token. `renewable`: there is a callback that may give another."""

    def __init__(self, token: Token) -> None:
        self._source = token
        self._current: str | None = token if isinstance(token, str) else None

    @property
    def renewable(self) -> bool:
        return callable(self._source)

    def forget(self) -> None:
        """The gateway refused the current token: the next `headers` asks the callback."""
        if self.renewable:
            self._current = None

    async def headers(self) -> dict[str, str]:
        """Return the headers that show the token; {} where there is none."""
        if self._current is None and callable(self._source):
            given = self._source()
            self._current = await given if inspect.isawaitable(given) else given
        if self._current is None:
            return {}
        token = self._current.strip()
        if not token or not token.isascii() or any(c.isspace() for c in token):
            raise Refused(401, "bad_token", "the token given to the client is no JWT")
        return {"Authorization": f"Bearer {token}"}
