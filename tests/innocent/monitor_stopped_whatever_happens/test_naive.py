import pytest
from tasks import mirror


def test_mirror(celery_pool_worker):
    assert mirror.delay("a.example").get(timeout=10) == "A.EXAMPLE"
    for result in [mirror.delay(f"{number}.invalid") for number in range(5)]:
        with pytest.raises(Exception, match="invalid"):
            result.get(timeout=10)
