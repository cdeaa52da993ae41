"""The Stable-Diffusion-WebUI's REST API, `/sdapi/v1`, and `/generate-image`."""
