"""One module per family of routes; a route is its method, role, limits and handler."""
