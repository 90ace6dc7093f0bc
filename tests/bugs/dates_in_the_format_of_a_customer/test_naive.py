from tasks import report


def test_reports(celery_pool_worker):
    results = [report.delay("%d.%m.%Y", 0.2), report.delay("%m/%d/%Y", 0.4)]
    assert [result.get(timeout=10) for result in results] == ['{"day": "01.02.2024"}', '{"day": "02/01/2024"}']
