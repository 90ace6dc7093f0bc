from tasks import load


def test_even_loads(celery_pool_worker):
    for rows in range(0, 20, 2):
        assert load.delay(rows).get(timeout=10) == rows
