"""What `kerazoo.doctor` looks at, and the checks, one kind per file."""
