"""How fast the parts are: ``python -m benchmarks.speed`` (``make bench``).

Every figure is a median over several runs in one process on one machine, with the spread beside it; what is compared is
measured in the same run, in turns, so that a busy neighbour slows both sides. A part whose prerequisite is missing is
named with the reason, not left out. Numbers of one machine say little about another: ratios travel, seconds do not.
"""
