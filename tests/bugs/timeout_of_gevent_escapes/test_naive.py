from celery import group

from tasks import latency


def test_latency(celery_pool_worker):
    answers = group(latency.s(h) for h in ("db", "web", "reporting"))().get(timeout=20)
    assert [a["host"] for a in answers] == ["db", "web", "reporting"]
