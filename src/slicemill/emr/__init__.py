"""Clusters, steps and the nightly schedule on Amazon EMR: requests as values, files rendered from them."""
