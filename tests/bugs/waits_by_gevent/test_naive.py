from celery import group

from tasks import await_fresh


def test_probe(celery_pool_worker):
    asked = group(await_fresh.s(f"feed{n}", 2) for n in range(3))().get(timeout=20)
    assert asked == [3, 3, 3]
