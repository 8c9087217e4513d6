"""Recorded sessions served as the venue would: see feeds/replay/server.py, and feeds/dialects for the protocols."""

from feeds.replay.server import ReplayServer

__all__ = ["ReplayServer"]
