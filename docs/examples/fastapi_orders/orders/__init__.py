"""Takes orders over HTTP, and has them carried out by Celery."""
