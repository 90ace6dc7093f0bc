from tasks import export


def test_export(celery_pool_worker):
    for number in range(8):
        assert export.delay(number).get(timeout=10) == number
