"""What is derived for people and programs."""
