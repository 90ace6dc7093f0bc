from tasks import report


def test_report(celery_pool_worker):
    results = [report.delay("abc"), report.delay("defgh"), report.delay("ij")]
    assert [result.get(timeout=10) for result in results] == [["ABC", 3], ["DEFGH", 5], ["IJ", 2]]
