"""A paper bot on the consolidated book: it prints what it would do, and visibly stops when data is not live.

    python examples/bot.py BTC-USDT --size 0.1

It buys where the best ask is when bids outweigh asks, sells where the best bid is when asks outweigh bids, and takes
the price it would have to pay from the depths of all venues. Nothing is sent anywhere.
"""

import argparse
import asyncio
import logging
import sys

from hub.client import Client, Depth, Gap, Quote
from hub.model import Level

DEFAULT_URL = "http://127.0.0.1:8000"


def cost_of(levels: list[Level], size: float) -> float | None:
    """Return the average price of taking `size` from levels (best first); None where there is not so much."""
    left, paid = size, 0.0
    for price, available in levels:
        taken = min(left, available)
        paid += taken * price
        left -= taken
        if left <= 0:
            return paid / size
    return None


class Bot:
    """`position` is in base units, `cash` in quote units."""

    def __init__(self, symbol: str, size: float, threshold: float) -> None:
        self.symbol, self.size, self.threshold = symbol, size, threshold
        self.position = self.cash = 0.0
        self.trading: bool | None = None
        self.depth: Depth | None = None

    def judge(self, states: dict[str, tuple[str, str]]) -> bool:
        """Decide whether to trade, and say so when that changes."""
        bad = [f"{channel} is {state} ({reason})" for channel, (state, reason) in states.items() if state != "live"]
        if self.trading != (not bad):
            self.trading = not bad
            if bad:
                self.depth = None  # what is known is no longer true
                say(f"STOPPED {'; '.join(bad)}")
            else:
                say(f"TRADING {self.symbol}")
        return self.trading

    def quote(self, quote: Quote) -> None:
        if quote.bid is None or quote.ask is None or not quote.bid_size or not quote.ask_size or self.depth is None:
            return
        if quote.bid >= quote.ask:
            return  # the venues disagree: somebody is late
        lean = (quote.bid_size - quote.ask_size) / (quote.bid_size + quote.ask_size)
        if lean > self.threshold and self.position <= 0:
            self.trade("BUY", quote.ask_venue, cost_of(self.depth.asks, self.size), 1)
        elif lean < -self.threshold and self.position >= 0:
            self.trade("SELL", quote.bid_venue, cost_of(self.depth.bids, self.size), -1)

    def trade(self, side: str, venue: object, price: float | None, sign: int) -> None:
        if price is None:
            say(f"WOULD {side} {self.size:g} {self.symbol}, but all venues together do not have so much")
            return
        self.position += sign * self.size
        self.cash -= sign * self.size * price
        say(f"WOULD {side} {self.size:g} {self.symbol} at {price:.8g}, best at {venue}; position {self.position:g}")


def say(text: str) -> None:
    print(text, flush=True)


async def main(url: str, bot: Bot) -> None:
    channels = [f"quote:all:{bot.symbol}", f"depth:all:{bot.symbol}"]
    async with Client(url) as hub, hub.stream(*channels) as stream:
        async for item in stream:
            trading = bot.judge({channel: stream.state(channel) for channel in channels})
            match item:
                case Depth():
                    bot.depth = item if trading else None
                case Quote() if trading:
                    bot.quote(item)
                case Gap():
                    logging.warning("gap in %s", item.channel)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("symbol")
    parser.add_argument("--size", type=float, default=0.1, help="base units per trade")
    parser.add_argument("--threshold", type=float, default=0.5, help="how far the book has to lean, 0 to 1")
    parser.add_argument("--url", default=DEFAULT_URL, help="gateway, or Redis (redis://…)")
    args = parser.parse_args()
    try:
        asyncio.run(main(args.url, Bot(args.symbol, args.size, args.threshold)))
    except KeyboardInterrupt:
        sys.exit(130)
