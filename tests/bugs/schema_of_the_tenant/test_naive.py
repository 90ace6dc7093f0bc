from tasks import export


def test_each_tenant_gets_its_own_tables(celery_pool_worker):
    names = ["orders", "items"]
    results = {t: export.delay(t, names) for t in ("acme", "globex", "initech")}
    for tenant, result in results.items():
        assert result.get(timeout=10) == [f"t_{tenant}.orders", f"t_{tenant}.items"]
