from tasks import debit


def test_references_differ(celery_pool_worker):
    results = [debit.delay(f"DE{n}", 10) for n in range(8)]
    references = {r.get(timeout=10)[2] for r in results}
    assert len(references) == 8
