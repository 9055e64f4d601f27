"""What a person types: `hpcnas NAME …`. Each command parses its arguments, calls `analysis` once, and prints."""
