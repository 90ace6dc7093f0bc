import pytest
from tasks import make_report


def test_report(celery_pool_worker):
    assert make_report.delay([1, 4, 5]).get(timeout=10) == ["100", "25", "20"]
    with pytest.raises(ZeroDivisionError):
        make_report.delay([1, 0]).get(timeout=10)
