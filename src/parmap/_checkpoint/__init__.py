"""Finished items on disk: a call that is run again runs only what is missing.

* `digest`    what an item is known by: the same in every run of a program
* `changes`   what a stored result depends on besides its arguments: source and versions
* `store`     one SQLite file, held by one call at a time
* `source`    between a call and its engine: what is stored is not run, what comes is stored

What is not found is computed; so nothing here has to be certain but one thing: a stored result belongs
to its arguments.
"""
