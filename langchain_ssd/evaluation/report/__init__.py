"""The evaluation as one HTML page that needs no network."""
