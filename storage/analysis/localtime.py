"""Local clock time of UTC instants at sites in different time zones."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from storage.errors import QueryError

LOCAL_TIME_TYPE = "datetime64[us]"


def zone_of(site: str, zones: Mapping[str, str]) -> str:
    """Time zone of a site; raises ``QueryError`` where the store has none."""
    if site not in zones:
        raise QueryError(f"the store has no time zone of site {site!r}; it knows {sorted(zones)}")
    return zones[site]


def local_clock(times: pd.Series, sites: pd.Series, zones: Mapping[str, str]) -> pd.Series:
    """What the clock on the wall showed.

    Args:
        times: UTC instants, ``datetime64[us, UTC]``.
        sites: site of each, the same index.
        zones: IANA time zone by site.

    Returns:
        ``datetime64[us]`` without a zone, the same index.

    Raises:
        QueryError: a site has no time zone.
    """
    local = pd.Series(pd.NaT, index=times.index, dtype=LOCAL_TIME_TYPE)
    for site in sites.unique():
        here = sites == site
        clock = times[here].dt.tz_convert(zone_of(site, zones)).dt.tz_localize(None)
        local[here] = clock.astype(LOCAL_TIME_TYPE)
    return local
