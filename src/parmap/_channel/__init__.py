"""What a channel is made of; `parmap.channel` is its face.

* `ends`      pure: the states of an end, and its legal moves
* `layout`    where everything lies in the shared memory
* `mutex`     the lock of one channel: what happens under it, and who releases it for the dead
* `ring`      slots of exact capacity, published by one store; README.md has the proof
* `heap`      blocks for messages that fit no slot, used again and again
* `bell`      pipes that wake those who sleep, one for each wake-up
* `presence`  who is left: pipes whose writing ends are the channel's ends
* `messages`  items to bytes and back, in any process
* `core`      one channel as one process has it: send, receive, wait, end
* `travel`    how channels and ends get into other processes, and what a fork does to them
* `selecting` which of several has something
"""
