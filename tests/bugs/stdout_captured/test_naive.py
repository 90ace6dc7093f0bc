from tasks import run_report


def test_reports_run(celery_pool_worker):
    results = [run_report.delay(name) for name in "abc"]
    for result in results:
        result.get(timeout=10)
