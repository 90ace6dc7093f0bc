from tasks import new_rate, quote


def test_rates(celery_pool_worker):
    for value in ("1.1", "1.2", "1.3"):
        for r in [quote.delay(n) for n in range(4)]:
            r.get(timeout=10)
        new_rate.delay(value).get(timeout=10)
    assert all([r.get(timeout=10) for r in [quote.delay(n) for n in range(4)]])
