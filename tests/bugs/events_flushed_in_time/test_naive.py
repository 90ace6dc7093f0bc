from tasks import report


def test_report(celery_pool_worker):
    results = [report.delay(["e"] * n) for n in (1, 2, 3)]
    assert [r.get(timeout=10) for r in results] == [1, 2, 3]
