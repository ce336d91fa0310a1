"""A plug-in for joblib's own suite: its process backends are parmap."""

from joblib import parallel

from parmap.integrations._joblib_backend import ParmapBackend

for name in ("loky", "multiprocessing"):
    parallel.BACKENDS[name] = ParmapBackend
