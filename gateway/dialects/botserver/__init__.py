"""botserver's API under `/api/v1/ai`: training jobs and models."""
