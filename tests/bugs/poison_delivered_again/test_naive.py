import contextlib

from tasks import parse


def test_bomb(celery_pool_worker):
    with contextlib.suppress(Exception):
        parse.delay("bomb").get(timeout=4)
