from celery import group
from tasks import import_rows


def test_import_log(celery_pool_worker):
    results = group(import_rows.s(f) for f in ("a", "b", "c")).delay().get(timeout=10)
    assert results == [[f"INFO {f} row {i}" for i in range(3)] for f in ("a", "b", "c")]
