"""The command `tickwire`. It starts the hub's processes and imports none of them."""
