"""The demo, its screenshots, and Microsoft's command line as a second client."""
