import pytest
from tasks import build


def test_all_is_refused(celery_pool_worker):
    with pytest.raises(BaseException):
        build.delay("all").get(timeout=10)
