"""Velesio's REST API: documented text routes, and the image routes of the WebUI beside it."""
