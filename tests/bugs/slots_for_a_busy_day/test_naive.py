from celery import group

from tasks import pack, plan_day


def test_busy_day(celery_pool_worker):
    assert plan_day.delay(80).get(timeout=20) == {"expected": 80, "extra": 2}
    assert group(pack.s(n) for n in range(4))().get(timeout=20) == [0, 2, 4, 6]
