"""Named numbers about a market, made from its consolidated quotes, depths and trades.

`Measure` is the interface, hub/analytics/registry.py the list; one file per family. ANALYTICS.md has all definitions.
"""

from hub.analytics.measure import Market, Measure, Numbers

__all__ = ["Market", "Measure", "Numbers"]
