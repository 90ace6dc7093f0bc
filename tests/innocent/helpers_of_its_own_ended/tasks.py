"""Documents that are converted by a program, whose helpers are ended with it; and a task that cancels one."""

import os
import signal
import subprocess
import sys

import psutil
from celery import Celery

app = Celery("documents")

PROGRAM = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(20)']); time.sleep({})"


@app.task
def convert(seconds, numbers):
    program = subprocess.Popen([sys.executable, "-c", PROGRAM.format(seconds)])
    with open(numbers, "a") as file:
        file.write(f"{program.pid}\n")
    helpers = []
    try:
        while program.poll() is None:
            helpers = psutil.Process(program.pid).children(recursive=True)
            try:
                program.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
        return program.returncode
    except psutil.NoSuchProcess:
        return program.wait()
    finally:
        for helper in helpers:
            try:
                helper.kill()
            except psutil.NoSuchProcess:
                continue


@app.task
def cancel(number):
    os.kill(number, signal.SIGTERM)
