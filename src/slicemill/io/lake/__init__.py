"""The lake's files: read, written, and handed to Petastorm."""
