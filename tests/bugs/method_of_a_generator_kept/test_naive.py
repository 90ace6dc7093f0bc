from tasks import code


def test_code(celery_pool_worker):
    results = [code.delay(n) for n in range(6)]
    assert all(len(r.get(timeout=10)) == 8 for r in results)
