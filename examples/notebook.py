# %% [markdown]
# # Candles, trades and live quotes with pandas
#
# Open this file as a notebook (VS Code, Jupytext), or run it: `python examples/notebook.py`. It needs a running hub
# (`make demo`), pandas and polars: `.venv` has them, elsewhere `pip install '.[client]'` in a checkout.

# %%
import os

import pandas as pd

from hub.client import Quote, SyncClient

URL = os.environ.get("TICKWIRE_URL", "http://127.0.0.1:8000")
SYMBOL = os.environ.get("SYMBOL", "BTC-USDT")
VENUE = os.environ.get("VENUE", "binance")

hub = SyncClient(URL)  # a loop of its own in a thread: no `await` in the notebook

# %% [markdown]
# ## What is there?

# %%
venues = hub.venues().to_pandas()
print(venues[["venue", "state", "age_ms", "symbols", "messages"]].to_string(index=False))

quotes = hub.quotes(SYMBOL).to_pandas()
quotes["spread_bp"] = (quotes["ask"] - quotes["bid"]) / quotes[["ask", "bid"]].mean(axis=1) * 10_000
print(quotes[["venue", "bid", "ask", "spread_bp", "state"]].to_string(index=False))

# %% [markdown]
# ## Candles: returns and volatility

# %%
candles = hub.candles(SYMBOL, VENUE, interval="10s", limit=500).to_pandas().set_index("start")
candles["return"] = candles["close"].pct_change()
summary = candles[["close", "volume", "return"]].describe()
print(summary.to_string())
minutes = candles.resample("1min").agg({"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"})
print(f"{len(candles)} candles of 10 s are {len(minutes)} minutes")

# %% [markdown]
# ## Trades: who was the aggressor?

# %%
trades = hub.trades(SYMBOL, VENUE, limit=1000).to_pandas()
flow = trades.groupby("side")["size"].agg(["count", "sum"])
print(flow.to_string())

# %% [markdown]
# ## The next ten quotes, as they come

# %%
rows = []
with hub.stream(f"quote:{VENUE}:{SYMBOL}") as stream:
    for item in stream:
        if isinstance(item, Quote):
            rows.append({"time": pd.Timestamp(item.ts_recv, unit="ns", tz="UTC"), "bid": item.bid, "ask": item.ask})
        if len(rows) == 10:
            break
live = pd.DataFrame(rows).set_index("time")
print(live.to_string())

# %%
hub.close()
