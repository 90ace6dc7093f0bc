from tasks import book


def test_book(celery_pool_worker, tmp_path):
    path = tmp_path / "bookings"
    path.write_text("0")
    numbers = [book.delay(str(path)) for _ in range(2)]
    assert sorted(n.get(timeout=8) for n in numbers) == [1, 2]
