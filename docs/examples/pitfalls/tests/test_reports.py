"""Tests that pass under prefork."""

import pytest
from reports import collect, import_rows, query, render


def test_long_report_is_cut_short(celery_pool_worker):
    assert celery_pool_worker.run(render, 0.6) == "partly rendered"


@pytest.mark.celery_expect(state="FAILURE")
def test_import_without_rows_fails():
    import_rows.delay([])


@pytest.mark.celery_expect(agree=True)
def test_pages_are_collected(celery_pool_worker):
    celery_pool_worker.map(collect, ["a", "b", "c", "d"])


@pytest.mark.celery_budget(makespan="600ms")
def test_queries_overlap(celery_pool_worker):
    celery_pool_worker.map(query, [0.2] * 4)
