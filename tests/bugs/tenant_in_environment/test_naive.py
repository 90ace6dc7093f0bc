import pytest
from tasks import export


def test_exports(celery_pool_worker):
    results = [export.delay(*each) for each in (("acme", 0.2), ("bolt", 0.25))]
    for result in results:
        result.get(timeout=10, propagate=False)
