"""``python -m pytest_celerypool.broker remove``: the reaper runs it when pytest was killed."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence

from pytest_celerypool.broker.removal import REMAINS, Remains, remove
from pytest_celerypool.errors import BrokerError


def main(arguments: Sequence[str]) -> int:
    """Remove what :data:`CELERYPOOL_REMAINS` in the environment describes; returns the exit status."""
    if list(arguments) != ["remove"] or REMAINS not in os.environ:
        return 2
    remains: Remains = json.loads(os.environ[REMAINS])
    try:
        remove(remains)
    except BrokerError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
