"""What our layer costs over a Triton that is called without it."""
