"""One file per venue: wire format and rules, no I/O."""
