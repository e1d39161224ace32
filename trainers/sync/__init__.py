"""What was learned, sent to an engine that holds weights of its own.

    export      weights as a folder that a server reads: all of them, or the LoRA adapters
    push        one module a way: full by file, full by the server's weight transfer, adapters
    publish     pause, push, name, check, resume; the disk as the way out; when to do it

Invariants:

* A server never reads a half-written folder: it is renamed into place.
* Weights have a version before anything is sampled with them; the server is asked for it after every update.
* Every call has a time-out, and the server samples again whatever happens to an update.
* What failed by transfer goes by file; what failed by file stops the run, with everything finished on disk.
"""
