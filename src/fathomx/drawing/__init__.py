"""What all figures share, and how files are written."""
