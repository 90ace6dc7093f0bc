from celery import group
from tasks import schema


def test_schema(celery_pool_worker):
    jobs = group(schema.s("t", tenant=name) for name in ("a", "b", "c"))
    assert jobs.delay().get(timeout=10) == ["a.t", "b.t", "c.t"]
    assert schema.delay("t").get(timeout=10) == "public.t"
