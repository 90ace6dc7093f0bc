from .settings import *  # noqa: F403

DATABASES["default"]["OPTIONS"] = {"timeout": 0.2}  # noqa: F405
