"""The exceptions that users meet: no imports of ours, so that every room may raise them."""

import signal


class UserError(Exception):
    """What a user can put right; `str(error)` is the whole message. The command line prints it and exits with 2."""


class Unsupported(UserError):
    """A solver or a noise lacks what an estimator needs."""


class Echo(UserError):
    """This process ends because of what another one says: nothing is left to say."""


class NonFinite(UserError):
    """Scores, a loss or a gradient that is NaN or infinite; `located` if the message says at which step."""

    def __init__(self, message: str, located: bool = False) -> None:
        super().__init__(message)
        self.located = located


class Stopped(Exception):
    """A process of a run ended early because a signal asked for it; `checkpoint` is what to go on from."""

    def __init__(self, number: int, step: int, checkpoint: str, rank: int = 0) -> None:
        self.number, self.checkpoint, self.rank = number, checkpoint, rank
        super().__init__(f"stopped by {signal.Signals(number).name} at step {step}")
