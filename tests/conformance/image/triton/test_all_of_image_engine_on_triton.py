"""All promises of image engines on a real Triton: those beside it are its daily share."""

import pytest

from tests.conformance.image.test_every_image_engine import *  # noqa: F403
from tests.conformance.image.triton.test_image_engine_on_triton import (  # noqa: F401
    test_closing_ends_what_runs,
    test_tokens_are_counted,
)

pytestmark = pytest.mark.slow  # what they try is code that the diffusers engine shares

del test_a_restart_gives_the_same_bytes  # noqa: F821  (its engines are made without Triton)
