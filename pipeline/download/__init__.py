"""Images fetched from addresses of the open web, politely and safely."""
