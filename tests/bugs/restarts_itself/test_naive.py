import contextlib

from tasks import upgrade


def test_upgrade(celery_pool_worker):
    with contextlib.suppress(Exception):
        upgrade.delay("2.0").get(timeout=3)
