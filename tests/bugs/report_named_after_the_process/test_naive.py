from tasks import report


def test_report(celery_pool_worker):
    results = [report.delay(text) for text in ("a", "b")]
    assert all(each.get(timeout=10) for each in results)
