"""Personal data in text: addresses, numbers and keys, found, counted and replaced."""
