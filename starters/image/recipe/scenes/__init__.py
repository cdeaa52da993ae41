"""What the recipe draws: each module makes captioned scenes of one kind."""
