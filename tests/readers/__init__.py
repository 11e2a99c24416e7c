"""Other people's readers on a real mount: what they find must be what the captures say is in it."""
