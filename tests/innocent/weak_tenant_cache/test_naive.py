from celery import group
from tasks import archive


def test_archive(celery_pool_worker):
    results = group(archive.s(n) for n in ("n", "s", "n", "n", "s")).delay().get(timeout=10)
    assert results == [f"{n}_orders" for n in ("n", "s", "n", "n", "s")]
