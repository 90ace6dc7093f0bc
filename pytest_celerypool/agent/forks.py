"""Keep the children of a prefork worker from reading what the process that forked them waits for.

A child of billiard closes the connection pools that it inherits (``kombu.resource``). A channel of Redis that has asked
for a message reads the answer before it closes (``kombu.transport.redis.Channel.close``, seen in kombu 5.7): from the
socket that the parent still has, which then waits for that answer for ever. ``inspect()`` leaves such a channel behind,
and ``reload()`` forks.
"""

from __future__ import annotations

import os
import sys
from typing import Any

_registered = False  # what os.register_at_fork was given once cannot be taken back


def leave_answers_to_the_parent() -> None:
    """Have every later child of this process forget what its channels have asked for, before it closes them."""
    global _registered
    if not _registered:
        os.register_at_fork(after_in_child=_forget_polls)
        _registered = True


def _forget_polls() -> None:
    pools: Any = sys.modules.get("kombu.pools")
    for pool in [] if pools is None else list(pools.connections.values()):
        for connection in (*pool._dirty, *pool._resource.queue):
            transport = getattr(connection, "_transport", None)
            for channel in getattr(transport, "channels", None) or ():
                if getattr(channel, "_in_poll", None):
                    channel._in_poll = None
