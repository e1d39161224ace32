"""The ``dojo`` command: config files become objects here, and nowhere else.

This is the only place where every floor meets. It holds no logic of its own: a verb reads its options, builds the parts
that its configuration names and calls one function of a lower floor. Every error that a user can cause leaves through
one boundary (:mod:`dojo.errors`) as one sentence and a non-zero exit.
"""
