import pytest
from tasks import call


def test_call(celery_pool_worker):
    with pytest.raises(Exception, match="500"):
        call.delay("/users").get(timeout=10)
