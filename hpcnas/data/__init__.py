"""Images as arrays, one split at a time, and their augmentation on the device."""
