"""Pictures as files and as pixels: reading, fitting, masks, writing, and their infotexts."""
