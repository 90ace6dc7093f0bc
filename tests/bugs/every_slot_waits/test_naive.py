import contextlib

from tasks import report


def test_reports(celery_pool_worker):
    results = [report.delay(number) for number in range(4)]
    for result in results:
        with contextlib.suppress(Exception):
            result.get(timeout=10)
