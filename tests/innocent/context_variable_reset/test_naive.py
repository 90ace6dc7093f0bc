from tasks import report


def test_reports(celery_pool_worker):
    results = [report.delay(tenant) for tenant in ("acme", "bolt", "corp")]
    assert [result.get(timeout=10) for result in results] == ["acme.orders", "bolt.orders", "corp.orders"]
