from tasks import export


def test_exports_do_not_mix(celery_pool_worker):
    names = ["anna", "bert", "cleo"]
    pending = [export.delay(name) for name in names]
    assert [p.get(timeout=10) for p in pending] == names
