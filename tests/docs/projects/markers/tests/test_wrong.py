import pytest
from shop import ask_warehouse


@pytest.mark.celery_pools("threads")
@pytest.mark.celery_budget(runtime="50ms")
def test_too_slow():
    ask_warehouse.delay("apple")
