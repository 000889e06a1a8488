"""What goes wrong with data."""

from dbp.errors import UserError


class DataError(UserError):
    """Files or examples that cannot be used; the message names them and says what to do."""
