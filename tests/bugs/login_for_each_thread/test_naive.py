from tasks import charge


def test_logs_in_once_per_worker_slot(celery_pool_worker):
    tokens = set()
    for batch in range(3):
        pending = [charge.delay(order) for order in range(4)]
        tokens.update(p.get(timeout=10) for p in pending)
    assert len(tokens) <= 4
