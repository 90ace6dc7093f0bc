import pytest
from tasks import decode


def test_a_broken_file(celery_pool_worker):
    with pytest.raises(Exception):
        decode.delay(0).get(timeout=10)
