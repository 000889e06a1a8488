"""Decisions that are listed one by one, as long as there are few."""

from collections.abc import Iterable
from itertools import islice
from typing import TypeVar

from dbp.errors import UserError

T = TypeVar("T")
LIMIT = 200_000


def listed(decisions: Iterable[T]) -> list[T]:
    """All decisions, or candidates for them.

    Raises:
        UserError: there are more than 200,000.
    """
    found = list(islice(decisions, LIMIT + 1))
    if len(found) > LIMIT:
        raise UserError(
            f"there are more than {LIMIT:,} decisions (or candidates), too many to list: take a smaller problem, or an "
            "estimator that lists none (score, perturbed, imle)"
        )
    return found
