"""How a coroutine waits for a call that a thread drives."""
