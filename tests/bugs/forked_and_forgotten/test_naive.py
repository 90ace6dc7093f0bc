from tasks import report


def test_report(celery_pool_worker):
    for value in range(8):
        assert report.delay(value).get(timeout=10) == value
