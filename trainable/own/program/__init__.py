"""A training that is a program of the user's, in any language: its command, its process, its reports."""
