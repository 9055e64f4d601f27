"""Reading runs and retrainings: numbers, checks, figures and exports. Raises errors and never exits."""
