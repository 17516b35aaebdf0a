"""One builder for each request, one reader for each response."""
