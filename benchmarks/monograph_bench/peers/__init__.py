"""What users would pick instead of monograph, measured beside it: each in an environment of its own."""
