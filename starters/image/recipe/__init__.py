"""The recipe of penstock-starter-image: scenes that it draws, training, export and exam."""
