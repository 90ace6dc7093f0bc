import pytest
from celery.exceptions import SoftTimeLimitExceeded
from tasks import render


def test_a_preview_has_a_second(celery_pool_worker):
    with pytest.raises(SoftTimeLimitExceeded):
        render.apply_async((3,), soft_time_limit=1).get(timeout=10)
