from tasks import write_report


def test_reports(celery_pool_worker):
    results = [write_report.delay(name) for name in ("daily", "weekly", "yearly")]
    assert [result.get(timeout=10) for result in results] == ["daily", "weekly", "yearly"]
