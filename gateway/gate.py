"""Clients with tokens while they are connected: the first message, renewal in place, expiry, revocation, slots.

Exists only where tokens are required. Nothing of it is on the way of market data: what a client may read was decided
when it subscribed.
"""

import asyncio
import heapq
import logging
import time
import uuid
from typing import TYPE_CHECKING

from gateway.guard import RECHECK_S, Guard
from gateway.protocol import Auth, Authenticated, CloseCode, Error, Request, RequestId, Subscribe, frame
from gateway.subscriber import Subscriber
from hub.access import NOBODY, Grant
from hub.errors import HubError, RedisUnavailable, Refused

if TYPE_CHECKING:
    from gateway.clients import Clients

__all__ = ["Gate"]

logger = logging.getLogger(__name__)

#: Messages that may wait while a token is being checked.
WAITING_MAX = 16
#: A connection slot lapses unless it is renewed.
SLOT_LAPSE_S, SLOT_RENEW_S = 60.0, 20.0


class Session:
    """One client. `until` is unix time (s) at which it is closed; `first` is what to subscribe once it may."""

    __slots__ = ("first", "slot", "subscriber", "until", "waiting")

    def __init__(self, subscriber: Subscriber, until: float, slot: str, first: Subscribe | None) -> None:
        self.subscriber, self.until, self.slot, self.first = subscriber, until, slot, first
        self.waiting: list[Request] | None = None  # a token is being checked, and this came after it


class Gate:
    """All clients of this worker that show tokens, or still have to."""

    def __init__(self, guard: Guard, clients: "Clients") -> None:
        self.guard, self.admission, self.clients = guard, guard.admission, clients
        self.journal = guard.journal
        self.expired = self.revoked = 0
        self._auth = guard.settings.auth
        self._sessions: dict[Subscriber, Session] = {}
        self._ends: list[tuple[float, int, Session]] = []
        self._order = 0
        self._freed: list[tuple[str, str]] = []
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def take_slot(self, grant: Grant) -> str:
        """Return the name of a connection slot, empty where there is no limit. Raises Refused."""
        if grant is NOBODY:
            return ""  # it takes one when it has said who it is
        most = grant.max_connections or self.guard.settings.limits.connections_per_subject
        if not most:
            return ""
        slot = uuid.uuid4().hex
        if not await self.admission.take_slot(grant.sub, slot, most, SLOT_LAPSE_S):
            raise Refused(429, "too_many_connections", f"this token may have {most} connections", 5.0)
        return slot

    def free_slot(self, sub: str, slot: str) -> None:
        if slot:
            self._freed.append((sub, slot))
            self._wake.set()

    def enter(self, subscriber: Subscriber, grant: Grant, slot: str, first: Subscribe | None) -> None:
        """Look after a new client from now on; `first` is what it subscribes as soon as it may."""
        subscriber.grant = grant
        session = self._sessions[subscriber] = Session(subscriber, 0.0, slot, first)
        if grant is NOBODY:
            self._end_at(session, time.time() + self._auth.deadline_s)
        else:
            self._end_at(session, grant.until + self._auth.leeway_s)
            self._begin(session)

    def left(self, subscriber: Subscriber) -> None:
        session = self._sessions.pop(subscriber, None)
        if session is not None:
            session.until = 0.0
            if subscriber.grant is not NOBODY:
                self.journal.note("client left", bad=False, sub=subscriber.grant.sub, jti=subscriber.grant.jti)
            self.free_slot(subscriber.grant.sub, session.slot)

    def takes(self, subscriber: Subscriber, op: "Request") -> bool:
        """Tell whether a message is the gate's business: a token, or something from a client without one."""
        session = self._sessions.get(subscriber)
        if session is None:
            return False
        if session.waiting is not None:
            session.waiting.append(op)
            if len(session.waiting) > WAITING_MAX:
                subscriber.sink.close(CloseCode.TOO_MANY, "too many messages while a token was checked")
            return True
        if isinstance(op, Auth):
            session.waiting = []
            task = asyncio.create_task(self._authenticate(session, op))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return True
        if subscriber.grant is NOBODY:
            self._tell(subscriber, op.id, "unauthorized", 'the first message must be {"op":"auth","token":"<JWT>"}')
            return True
        return False

    async def _authenticate(self, session: Session, op: Auth) -> None:
        subscriber = session.subscriber
        first = subscriber.grant is NOBODY
        try:
            grant = await self.guard.identify(op.token, connects=first)
            if not first and grant.sub != subscriber.grant.sub:
                raise Refused(401, "other_subject", "the new token is for somebody else (sub)")
            slot = await self.take_slot(grant) if first else session.slot
        except HubError as error:
            self._refuse(session, op.id, error, first=first)
            return
        if subscriber.closed:
            if first:
                self.free_slot(grant.sub, slot)
            return
        session.slot, subscriber.grant = slot, grant
        self._end_at(session, grant.until + self._auth.leeway_s)
        self.clients.fanout.send(subscriber, frame(Authenticated(id=op.id, sub=grant.sub, exp=int(grant.until))))
        if first:
            self._begin(session)
        else:
            self.clients.subscriptions.regrant(subscriber)
        self._go_on(session)

    def _refuse(self, session: Session, request: RequestId, error: HubError, *, first: bool) -> None:
        subscriber = session.subscriber
        if subscriber.closed:
            return
        self.guard.refused += 1
        if isinstance(error, Refused):
            code, detail = error.code, error.detail
        else:
            code, detail = "unavailable", "tokens cannot be checked at the moment"
        self.journal.note("token refused", code=code, sub=None if first else subscriber.grant.sub)
        self._tell(subscriber, request, code, detail)
        if first:
            known = isinstance(error, Refused) and error.status == 401
            subscriber.sink.close(CloseCode.UNAUTHORIZED if known else CloseCode.TRY_LATER, detail)
        else:
            self._go_on(session)

    def _begin(self, session: Session) -> None:
        grant = session.subscriber.grant
        self.journal.note("client came", bad=False, sub=grant.sub, jti=grant.jti)
        first, session.first = session.first, None
        if first is not None:
            self.clients.subscriptions.subscribe(session.subscriber, first)

    def _go_on(self, session: Session) -> None:
        """Act on what came while the token was being checked; another token among it begins anew."""
        waiting, session.waiting = session.waiting, None
        for op in waiting or ():
            if not session.subscriber.closed:
                self.clients.act(session.subscriber, op)

    def _tell(self, subscriber: Subscriber, request: RequestId, code: str, detail: str) -> None:
        self.clients.fanout.send(subscriber, frame(Error(code=code, detail=detail, id=request)))

    # time

    def _end_at(self, session: Session, until: float) -> None:
        session.until = until
        self._order += 1
        heapq.heappush(self._ends, (until, self._order, session))

    def tick(self, now: float) -> None:
        """Close whose time is over. `now` is unix time in s."""
        while self._ends and self._ends[0][0] <= now:
            until, _, session = heapq.heappop(self._ends)
            if session.until != until:
                continue  # renewed, or gone
            nobody = session.subscriber.grant is NOBODY
            self.expired += not nobody
            reason = "no token came in time" if nobody else "the token expired"
            self._tell(session.subscriber, None, "unauthorized" if nobody else "token_expired", reason)
            session.subscriber.sink.close(CloseCode.UNAUTHORIZED, reason)

    async def run(self) -> None:
        """Look for revoked tokens and keep slots until cancelled."""
        look_at, renew_at = 0.0, time.monotonic() + SLOT_RENEW_S
        while True:
            self._wake.clear()
            try:
                await self._free()
                if time.monotonic() >= look_at:
                    await self._look_for_revoked()
                    look_at = time.monotonic() + RECHECK_S
                if time.monotonic() >= renew_at:
                    slots = [(s.subscriber.grant.sub, s.slot) for s in self._sessions.values() if s.slot]
                    await self.admission.renew_slots(slots, SLOT_LAPSE_S)
                    renew_at = time.monotonic() + SLOT_RENEW_S
            except RedisUnavailable as error:
                logger.info("tokens not checked error=%s", error)
                await asyncio.sleep(RECHECK_S)
            try:
                async with asyncio.timeout(RECHECK_S):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def close(self) -> None:
        """Give all slots back; what Redis does not take lapses."""
        for task in list(self._tasks):
            task.cancel()
        try:
            await self._free()
        except RedisUnavailable as error:
            logger.info("slots not given back error=%s", error)

    async def _free(self) -> None:
        while self._freed:
            slots = self._freed[:1000]
            await self.admission.free_slots(slots)
            del self._freed[: len(slots)]

    async def _look_for_revoked(self) -> None:
        jtis = list({session.subscriber.grant.jti for session in self._sessions.values()} - {""})
        if not jtis:
            return
        now = time.monotonic()
        revoked = await self.admission.revoked(jtis)
        self.guard.note_good([jti for jti in jtis if jti not in revoked], now)
        if not revoked:
            return
        for session in list(self._sessions.values()):
            if session.subscriber.grant.jti in revoked:
                self.revoked += 1
                self.journal.note("token revoked", sub=session.subscriber.grant.sub, jti=session.subscriber.grant.jti)
                self.guard.forget(session.subscriber.grant.jti)
                self._tell(session.subscriber, None, "token_revoked", "the token was revoked")
                session.subscriber.sink.close(CloseCode.UNAUTHORIZED, "the token was revoked")
