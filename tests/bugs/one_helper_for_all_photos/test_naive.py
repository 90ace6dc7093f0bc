from tasks import read_tags


def test_tags_of_several_photos(celery_pool_worker):
    photos = ["a.jpg", "beach.jpg", "cat-1.jpg", "dd.jpg"]
    pending = [read_tags.delay(photo) for photo in photos]
    for photo, p in zip(photos, pending):
        assert p.get(timeout=10) == [f"name={photo}", f"size={len(photo)}"]
