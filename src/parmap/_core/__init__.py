"""The pure core: it decides, the shell does.

Nothing here blocks, sleeps, logs, reads a clock or touches the operating system; time, chance and
identity are arguments.  `Scheduler.handle(event, now=...)` is the only door.

* `events`    what happened (past tense), told by the shell
* `commands`  what shall be done (imperative), obeyed by the shell
* `states`    the legal moves of a worker, as a table
* `calls`     the books of one call: which of its items wait, and where it ends
* `workers`   the books of one worker: what it holds, how long it may take to leave
* `deadlines` how long the item that a worker is at has run
* `retry`     how often an item is run again, and how long it rests in between
* `chunking`  how many items travel together
* `ordering`  results that arrive in any order, given out in the order of the items
* `books`     all of these together, and how calls come to their ends
* `losses`    decisions about items that come to nothing
* `scheduler` the other decisions
"""
