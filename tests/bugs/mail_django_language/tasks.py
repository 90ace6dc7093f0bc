import time

import django
from celery import Celery
from django.conf import settings

if not settings.configured:
    settings.configure(USE_I18N=True, LANGUAGE_CODE="en", LOGGING_CONFIG=None)
    django.setup()

from django.utils import translation
from django.utils.translation import gettext

app = Celery("shop")


@app.task
def pickup_mail(language):
    translation.activate(language)
    time.sleep(0.1)
    return f"{gettext('Sunday')} 10:00"
