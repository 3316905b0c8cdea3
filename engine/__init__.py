"""Who computes training steps, decodes LODs and searches codes: torch (reference), cpu (C++), cuda (Triton), tcnn."""
