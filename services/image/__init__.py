"""ImageService: images from text, from other images, and into parts of images."""
