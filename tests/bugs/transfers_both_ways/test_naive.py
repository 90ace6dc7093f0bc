from tasks import transfer


def test_transfers(celery_pool_worker):
    there = transfer.delay("savings", "current", 10)
    back = transfer.delay("current", "savings", 5)
    assert there.get(timeout=2) == back.get(timeout=2) == 200
