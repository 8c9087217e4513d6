"""What gateways have to agree on about tokens, in Redis: which are revoked, and how many connections a subject has."""

import hashlib
import time
from collections.abc import Iterable, Sequence

from redis.exceptions import RedisError

from hub.errors import RedisUnavailable
from hub.keys import Keys
from hub.log import mask_url
from hub.redisio import command_client, script

__all__ = ["Admission", "subject_key"]

BATCH = 1000


def subject_key(sub: str) -> str:
    """Return a short name for any `sub`, fit for a key."""
    return hashlib.sha256(sub.encode()).hexdigest()[:32]


class Admission:
    """Revocations and connection slots. Every method raises RedisUnavailable where Redis does not answer.

    A slot is a member of a sorted set per subject, scored with the unix time (s) at which it lapses; whoever holds it
    renews it, so that the slots of a killed gateway do not stay taken.
    """

    def __init__(self, url: str, keys: Keys) -> None:
        self.keys = keys
        self._url = url
        self._client = command_client(url, timeout_s=2.0)

    async def close(self) -> None:
        await self._client.aclose()

    async def revoke(self, jti: str, until: float) -> None:
        """Refuse the token `jti` from now on; it is forgotten at unix time `until` (s), when it has expired anyway."""
        now = time.time()
        try:
            async with self._client.pipeline(transaction=False) as pipe:
                pipe.zremrangebyscore(self.keys.revoked, "-inf", now)
                pipe.zadd(self.keys.revoked, {jti: until}, gt=True)
                await pipe.execute()
        except (RedisError, OSError) as error:
            raise self._unavailable(error) from error

    async def revoked(self, jtis: Iterable[str]) -> set[str]:
        """Return those of `jtis` that are revoked."""
        names = list(dict.fromkeys(jtis))
        found: set[str] = set()
        try:
            for start in range(0, len(names), BATCH):
                chunk = names[start : start + BATCH]
                scores = await self._client.zmscore(self.keys.revoked, chunk)
                found.update(name for name, score in zip(chunk, scores, strict=True) if score is not None)
        except (RedisError, OSError) as error:
            raise self._unavailable(error) from error
        return found

    async def take_slot(self, sub: str, slot: str, most: int, lapse_s: float) -> bool:
        """Take one of a subject's `most` slots under the name `slot`; False where all are taken."""
        now = time.time()
        try:
            taken = await self._client.eval(
                script("take_slot"), 1, self.keys.slots(subject_key(sub)), now, now + lapse_s, slot, most, int(lapse_s)
            )
        except (RedisError, OSError) as error:
            raise self._unavailable(error) from error
        return bool(taken)

    async def renew_slots(self, slots: Sequence[tuple[str, str]], lapse_s: float) -> None:
        """Keep (sub, slot) pairs for another `lapse_s`, those too that Redis lost."""
        until = time.time() + lapse_s
        try:
            for start in range(0, len(slots), BATCH):
                async with self._client.pipeline(transaction=False) as pipe:
                    for sub, slot in slots[start : start + BATCH]:
                        key = self.keys.slots(subject_key(sub))
                        pipe.zadd(key, {slot: until})
                        pipe.expire(key, int(lapse_s))
                    await pipe.execute()
        except (RedisError, OSError) as error:
            raise self._unavailable(error) from error

    async def free_slots(self, slots: Sequence[tuple[str, str]]) -> None:
        """Give (sub, slot) pairs back."""
        try:
            async with self._client.pipeline(transaction=False) as pipe:
                for sub, slot in slots:
                    pipe.zrem(self.keys.slots(subject_key(sub)), slot)
                await pipe.execute()
        except (RedisError, OSError) as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> RedisUnavailable:
        return RedisUnavailable(mask_url(self._url), str(error))
