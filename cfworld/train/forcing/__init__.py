"""Teacher forcing: clips under the slots that memory would hold, and what is lost on them."""
