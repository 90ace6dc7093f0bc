from tasks import cleanup, report


def test_report(celery_pool_worker):
    assert report.delay("acme").get(timeout=10) == "acme.orders"
    assert cleanup.delay().get(timeout=10)
