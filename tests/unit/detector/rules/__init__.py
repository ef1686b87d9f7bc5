"""The rules of the detector, each by itself."""
