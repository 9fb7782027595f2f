"""The web tool: one page on localhost on top of sessions."""
