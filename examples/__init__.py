"""Programs that use the hub, each run by the tests."""
