"""Publish the jobs of one contender, and record the seconds: ``python publish.py celery_jobs``."""

from __future__ import annotations

import importlib
import sys
import time

from counting import write_result

contender = importlib.import_module(sys.argv[1])
began = time.perf_counter()
seconds = contender.publish()
write_result({"seconds": seconds or time.perf_counter() - began})
