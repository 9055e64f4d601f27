"""From a task to an evaluation: the trainer process, the ways to train, and fitness. Knows no population."""
