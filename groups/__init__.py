"""Many materials: discovery, journal, workers on this machine or on Ray, and the report of a batch."""
