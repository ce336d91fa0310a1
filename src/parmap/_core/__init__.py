"""The pure core: it decides, the shell does.

Nothing here blocks, sleeps, logs, reads a clock or touches the operating system; time, chance and
identity are arguments.  `Scheduler.handle(event, now=...)` is the only door.

* `events`    what happened (past tense), told by the shell
* `commands`  what shall be done (imperative), obeyed by the shell
* `states`    the legal moves of a worker, as a table
* `calls`     the books of one call: which of its items wait, and where it ends
* `workers`   the books of one worker: what it holds, how long it may take to leave
* `chunking`  how many items travel together
* `ordering`  results that arrive in any order, given out in the order of the items
* `scheduler` the decisions
"""
