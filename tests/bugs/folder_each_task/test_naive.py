import pytest
from tasks import unpack


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))


def test_unpack(celery_pool_worker):
    for _ in range(8):
        assert unpack.delay({"a": "abc", "b": "de"}).get(timeout=10) == 5
