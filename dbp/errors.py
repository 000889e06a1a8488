"""The one exception that users meet: no imports, so that every room may raise it."""


class UserError(Exception):
    """What a user can put right; `str(error)` is the whole message. The command line prints it and exits with 2."""


class Unsupported(UserError):
    """A solver or a noise lacks what an estimator needs."""
