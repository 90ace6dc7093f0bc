from tasks import report


def test_report(celery_pool_worker):
    assert report.delay("May").get(timeout=20) == "report of May"
