from tasks import BRANDS, send_receipt


def test_receipts(celery_pool_worker):
    jobs = [(brand, send_receipt.delay(brand, f"{brand}-1", "kim@example.org")) for brand in BRANDS]
    for brand, job in jobs:
        assert job.get(timeout=10) == BRANDS[brand]
