"""Venue `all`: one quote, one depth and one line of candles per symbol, made of what the venues publish."""
