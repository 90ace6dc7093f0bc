import pytest
from celery.exceptions import TimeLimitExceeded

from tasks import submit


def test_short_run(celery_pool_worker):
    assert submit(2).get(timeout=20) > 0


def test_long_run_is_cut(celery_pool_worker):
    with pytest.raises(TimeLimitExceeded):
        submit(28).get(timeout=20)
