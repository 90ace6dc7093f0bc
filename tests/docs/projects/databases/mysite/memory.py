from .settings import *  # noqa: F403

DATABASES["default"].pop("TEST")  # noqa: F405
