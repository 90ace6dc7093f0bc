from tasks import plan


def test_plan(celery_pool_worker):
    assert plan.delay(160).get(timeout=10) == 0
