"""What the console's pages are made of, without a browser."""
