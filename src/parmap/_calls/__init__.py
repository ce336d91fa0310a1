"""One call as its caller lives it, whoever runs the items.

* `remote`        a call over workers: what the caller leaves for the driver, and the news of it
* `inline`        the same call in this very process
* `run`           what both have in common, and how a call ends
* `feeder`        the input, read lazily
* `outcomes`      what became of the items: values and failures
* `gather`        all outcomes as a list
* `stream`        outcomes one by one
* `submit`        a call of one item, whose outcome goes into a Future
* `surroundings`  the caller's folder, path, environment, as workers take them over
* `verdicts`      why the engine could not serve a call
* `captured`      which variable makes a function large
* `hearsay`       what workers have said, until somebody delivers it
* `delivery`      ... to this process's streams, loggers and warnings' filters
"""
