"""``python -m parmap doctor``.

* `machine`    what there is to see: CPUs, memory, limits, versions
* `selfcheck`  small programs that must work, and what things cost
* `advice`     from both to what is wrong, and its cure
* `report`     all of it as text or JSON
"""
