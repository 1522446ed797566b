"""Packs: many small networks trained at once as one."""
