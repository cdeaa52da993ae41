"""What the dialect serves of images, for the OpenAPI document."""

from gateway.dialects.openai import image_schema as schema
from gateway.openapi import Operation

IMAGE_OPERATIONS = (
    Operation(
        "post",
        "/v1/images/generations",
        "Draws images from a text.",
        schema.ImageList,
        body=schema.ImageGeneration,
        streams=True,
    ),
    Operation(
        "post",
        "/v1/images/edits",
        "Changes an image, or the part of it that a mask leaves open.",
        schema.ImageList,
        body=schema.ImageEdit,
        form=schema.ImageEditForm,
        streams=True,
    ),
    Operation(
        "post",
        "/v1/images/variations",
        "Varies an image.",
        schema.ImageList,
        form=schema.ImageVariationForm,
    ),
)
"""In the order of the routes."""
