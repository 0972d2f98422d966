"""The twin of a system that runs: workers on nodes, a controller that decides, a lab on one machine, an HTTP server."""
