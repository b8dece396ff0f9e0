"""The service's outside: HTTP, command line, and the composition root that joins the packages."""
