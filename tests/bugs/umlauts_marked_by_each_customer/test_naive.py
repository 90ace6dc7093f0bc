from tasks import export


def test_export(celery_pool_worker):
    a, b = export.delay("?", "Jörg", "Zoë"), export.delay("_", "Jörg", "Zoë")
    assert a.get(timeout=10) == ["J?rg", "Zo?"]
    assert b.get(timeout=10) == ["J_rg", "Zo_"]
