"""What a channel is made of; `parmap.channel` is its face.

* `ends`      pure: the states of an end, and its legal moves
* `layout`    where everything lies in the shared memory
* `ring`      slots of exact capacity, published by one store; README.md has the proof
* `large`     messages that fit no slot; `heap` has their blocks, used again and again
* `fast`      the everyday path of the ring, written out
* `bell`      pipes that wake those who sleep, one for each wake-up
* `presence`  who is left: pipes whose writing ends are the channel's ends
* `messages`  items to bytes and back, in any process
* `waiting`   sleeping until a bell rings or the other side is gone
* `core`      one channel as one process has it (`state`), `sending` and `receiving`
* `local`     the ends of this process, and what a fork does to them
* `faces`     the methods of the public classes
* `portable`  presence without ``/proc``
* `travel`    how channels and ends get into other processes
* `selecting` which of several has something
"""
