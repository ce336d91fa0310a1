"""A worker group: one function per process, supervised.

* `seat`      one place in it: what runs there, and what became of it
* `loop`      starts, listens to, and ends the processes
* `stuck`     whether waiting for them would take for ever
* `worker`    one process as its owner sees it
* `outcomes`  values and failures, for the owner of the group
"""
