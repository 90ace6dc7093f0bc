from concurrent.futures import CancelledError
import pytest
from tasks import second_quote


def test_second_quote(celery_pool_worker):
    assert second_quote.delay(["a", "b"], 0.4).get(timeout=10) == "b"
    with pytest.raises(CancelledError):
        second_quote.delay(["a", "b"], 0).get(timeout=10)
