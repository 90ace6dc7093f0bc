import pytest
from tasks import parse


def test_an_error_page(celery_pool_worker):
    with pytest.raises(Exception, match="Expecting value"):
        parse.delay("<html>").get(timeout=10)
