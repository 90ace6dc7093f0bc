import uuid

from tasks import post, read


def test_entries_do_not_mix(celery_pool_worker):
    book = uuid.uuid4().hex
    for result in [post.delay(book, n) for n in range(4)]:
        result.get(timeout=10)
    lines = read.delay(book).get(timeout=10)[:-1]
    assert len(lines) == 8
    for begin, end in zip(lines[::2], lines[1::2]):
        assert begin.replace("begin", "end") == end
