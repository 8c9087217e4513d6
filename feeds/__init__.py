"""Feeds: one process per venue, from its sockets to Redis. Imports hub, never gateway."""
