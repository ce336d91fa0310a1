"""A worker group: one function per process, supervised.

* `seat`      one place in it: what runs there, and what became of it
* `loop`      starts, listens to, and ends the processes
* `outcomes`  values and failures, for the owner of the group
"""
