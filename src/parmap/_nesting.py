"""Whether this process is a worker of parmap, and how many CPUs its own calls may use."""

from __future__ import annotations

# Workers set it once, at their start; None: this process is no worker.
budget: int | None = None
