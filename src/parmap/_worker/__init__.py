"""The worker's side.  Imports little: every import here is paid at each worker's start.

* `main`          the loop: frames in, frames out
* `tasks`         one chunk, item by item
* `member`        a worker of a group: one function, then the end
* `bound`         a call with its arguments
* `hygiene`       signals, the parent's death, inherited descriptors
* `output`        `sys.stdout` and `sys.stderr`, and the pipe through which all is said
* `forwarding`    log records, warnings, errors of threads; `log_handler` once `logging` is there
* `surroundings`  the caller's folder, path, environment, levels and filters, taken over
"""
