"""Where README's numbers come from: one command a table."""
