import pytest
from tasks import answer


def test_quit(celery_pool_worker):
    with pytest.raises(BaseException):
        answer.delay("quit").get(timeout=10)
