"""What a person runs first."""
