from tasks import report


def test_report(celery_pool_worker):
    a, b = report.delay("a"), report.delay("b")
    assert a.get(timeout=10) == ["begin a", "end a"]
    assert b.get(timeout=10) == ["begin b", "end b"]
