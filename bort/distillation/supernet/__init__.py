"""One weight-sharing student for all candidates of a search."""
