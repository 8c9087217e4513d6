"""The shared core: messages, Redis, books, candles, configuration. Imports neither feeds nor gateway."""
