"""What is said in a picture itself, for who reads its file."""

#: The PNG text chunk that says what of its prompt could not be drawn.
NOTE = "Darkroom note"
