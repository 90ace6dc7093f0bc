from celery import group
from tasks import vat


def test_vat(celery_pool_worker):
    results = group(vat.s("de", 100), vat.s("fr", 100, "20"), vat.s("de", 200)).delay().get(timeout=10)
    assert results == [["de", 119, "EUR", False], ["fr", 120, "EUR", False], ["de", 238, "EUR", False]]
