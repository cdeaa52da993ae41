"""Seeds: drawn where none is given, and counted up over the images of a job."""

import secrets

from services.errors import InvalidArgument

MOST = 2**53
"""Seeds are less: what JSON's numbers hold exactly."""
_DRAWN_BELOW = 2**32 - 2


def resolve(seed: int | None, images: int, field: str) -> int:
    """Returns the seed of the first image; -1 and None draw one.

    Raises `InvalidArgument` where that of the last image would be too great.
    """
    if seed is None or seed == -1:
        return secrets.randbelow(_DRAWN_BELOW)
    if seed + images > MOST:
        raise InvalidArgument(
            f"'{field}': image k uses {field} + k, and {images} images from {seed} go beyond 2^53. "
            f"Take a smaller one.",
            field=field,
        )
    return seed
