"""The same call on somebody else's Executor: threads, interpreters, loky, Dask, MPI."""
