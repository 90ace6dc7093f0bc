from tasks import schema


def test_schema(celery_pool_worker):
    calls = [schema.apply_async(("t",), headers={"tenant": "acme"}) for _ in range(4)]
    assert {c.get(timeout=10) for c in calls} == {"acme.t"}
    calls = [schema.delay("t") for _ in range(4)]
    assert {c.get(timeout=10) for c in calls} == {"public.t"}
