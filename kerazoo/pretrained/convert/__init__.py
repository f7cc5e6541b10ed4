"""Models of other libraries, as models of ours."""
