"""The store that all instances share: Redis. The only module that imports its client, when one is configured.

Impatient, because every anonymous search waits for it.
"""

from __future__ import annotations

from litestar.stores.base import Store
from litestar.stores.redis import RedisStore
from redis.asyncio import Redis

TIMEOUT_S = 0.25
CONNECTIONS_MAX = 16
NAMESPACE = "tidepool"


def connect(url: str) -> Store:
    """Sends nothing yet."""
    client = Redis.from_url(url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S, max_connections=CONNECTIONS_MAX)
    return RedisStore(client, namespace=NAMESPACE)
