import pytest
from tasks import report


def test_no_arguments(celery_pool_worker):
    with pytest.raises(Exception):
        report.delay([]).get(timeout=10)
