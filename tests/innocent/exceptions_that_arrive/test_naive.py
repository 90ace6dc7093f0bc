import pytest
from tasks import Api, ApiError, call, divide, look, quiet


def test_errors(celery_pool_worker):
    with pytest.raises(ApiError) as caught:
        call.delay(500).get(timeout=30)
    assert caught.value.code == 500
    with pytest.raises(Api.Gone):
        look.delay("x").get(timeout=30)
    with pytest.raises(ZeroDivisionError):
        divide.delay(1, 0).get(timeout=30)
    quiet.delay("<html>")
