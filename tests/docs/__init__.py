"""The documents: what they show was run."""
