from tasks import pay, welcome


def test_welcome(celery_pool_worker):
    results = [task.delay("ann") for task in (welcome, pay) for _ in range(3)]
    assert all(r.get(timeout=10) for r in results)
