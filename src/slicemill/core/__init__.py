"""Arrays and rules: numpy only, no bytes, no URIs, no framework."""
