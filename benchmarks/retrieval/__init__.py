"""How fast documents are stored and found, and how much the approximate index finds."""
