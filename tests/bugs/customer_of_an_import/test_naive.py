from tasks import import_rows


def test_rows_carry_the_customer(celery_pool_worker):
    one = import_rows.delay("acme", 3)
    two = import_rows.delay("globex", 3)
    assert one.get(timeout=10) == ["ACME-000", "ACME-001", "ACME-002"]
    assert two.get(timeout=10) == ["GLOBEX-000", "GLOBEX-001", "GLOBEX-002"]
