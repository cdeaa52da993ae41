"""The dialect of Gel's AI extension, under branches of its HTTP port."""
