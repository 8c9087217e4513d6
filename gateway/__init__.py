"""The gateway: fans the bus out to WebSocket clients and answers REST from Redis."""
