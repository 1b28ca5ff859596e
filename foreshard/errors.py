"""What a user may run into. Each message says what was wrong, where, and what to do about it."""


class ForeshardError(Exception):
    """An error whose text is one sentence for a person; the command line prints it and exits with status 1."""


class Refused(ForeshardError):
    """The request was understood and is not allowed now: a stale plan, a lost lease, a lost compare-and-set."""
