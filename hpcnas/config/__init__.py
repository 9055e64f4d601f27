"""What a person may set, checked where it enters: of a search, a retraining, the data, and the command line."""
