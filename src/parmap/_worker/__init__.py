"""The worker's side.  Imports little: every import here is paid at each worker's start.

* `main`          the loop: frames in, frames out
* `tasks`         one chunk, item by item
* `member`        a worker of a group: one function, then the end
* `bound`         a call with its arguments
* `hygiene`       signals, the parent's death, inherited descriptors
* `surroundings`  the caller's folder, path, environment, levels and filters, taken over
"""
